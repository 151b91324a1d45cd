/* A disk that fails or hangs on demand, below every library of a process.
 *
 * The file that FAILING_DISK names holds one rule a line: an operation (write, sync, close), what
 * becomes of it (EIO, ENOSPC, hold), and a part of the paths that it concerns, up to the line's
 * end; with a $ behind it, the end of them. A held call goes on when its rule is gone. A call that
 * fails does nothing, but for close, which closes. The operation poll is that of the main thread,
 * whose path is "main": to hold it hangs a program's loop and no other thread. The operation
 * statvfs asks what is free, and can only hang. The file is read at every call, so that a test may
 * change it at any time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_RULES_BYTES 4096
#define HOLD_POLL_NS 5000000L

enum { NOTHING = 0, HOLD = -1 };

/* Read a file by bare system calls: the functions below must not be met again. */
static size_t read_rules(char *rules)
{
    const char *path = getenv("FAILING_DISK");
    if (path == NULL)
        return 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    long count = syscall(SYS_read, fd, rules, MAX_RULES_BYTES - 1);
    syscall(SYS_close, fd);
    return count > 0 ? (size_t)count : 0;
}

static int concerns(const char *wanted, const char *path)
{
    size_t length = strlen(wanted), whole = strlen(path);
    if (length == 0 || wanted[length - 1] != '$')
        return strstr(path, wanted) != NULL;
    length--;
    return whole >= length && strncmp(path + whole - length, wanted, length) == 0;
}

static int outcome(const char *operation, const char *path)
{
    char rules[MAX_RULES_BYTES], *rest = rules, *line;
    rules[read_rules(rules)] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *wanted = strsep(&line, " "), *what = strsep(&line, " ");
        if (line == NULL || strcmp(wanted, operation) != 0 || !concerns(line, path))
            continue;
        if (strcmp(what, "hold") == 0)
            return HOLD;
        return strcmp(what, "ENOSPC") == 0 ? ENOSPC : EIO;
    }
    return NOTHING;
}

/* Return whether the call must fail, with errno set; wait while it is held. */
static int fails(const char *operation, int fd)
{
    char link[64], path[PATH_MAX];
    int saved = errno, found;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) {
        errno = saved;
        return 0;
    }
    path[length] = '\0';
    while ((found = outcome(operation, path)) == HOLD) {
        struct timespec pause = {0, HOLD_POLL_NS};
        nanosleep(&pause, NULL);
    }
    errno = found == NOTHING ? saved : found;
    return found != NOTHING;
}

#define REAL(type, name, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (real == NULL)                                                                              \
        *(void **)&real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, write, int, const void *, size_t);
    return fails("write", fd) ? -1 : real(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return fails("write", fd) ? -1 : real(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return fails("write", fd) ? -1 : real(fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return fails("write", fd) ? -1 : real(fd, parts, count);
}

int fsync(int fd)
{
    REAL(int, fsync, int);
    return fails("sync", fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(int, fdatasync, int);
    return fails("sync", fd) ? -1 : real(fd);
}

int statvfs64(const char *path, struct statvfs64 *told)
{
    REAL(int, statvfs64, const char *, struct statvfs64 *);
    while (outcome("statvfs", path) == HOLD) {
        struct timespec pause = {0, HOLD_POLL_NS};
        nanosleep(&pause, NULL);
    }
    return real(path, told);
}

int statvfs(const char *path, struct statvfs *told)
{
    return statvfs64(path, (struct statvfs64 *)told);
}

int poll(struct pollfd *watched, nfds_t count, int timeout_ms)
{
    REAL(int, poll, struct pollfd *, nfds_t, int);
    int is_main = syscall(SYS_gettid) == getpid();
    while (is_main && outcome("poll", "main") == HOLD) {
        struct timespec pause = {0, HOLD_POLL_NS};
        nanosleep(&pause, NULL);
    }
    return real(watched, count, timeout_ms);
}

int close(int fd)
{
    REAL(int, close, int);
    int failed = fails("close", fd), reason = errno;
    int closed = real(fd);
    if (failed)
        errno = reason;
    return failed ? -1 : closed;
}
