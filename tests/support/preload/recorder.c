/* Records every change that a process makes to files below one directory.
 *
 * Preloaded, it stands between all libraries (libhdf5, Python) and glibc. Each call that changes
 * files is carried out and appended to a log, in the order in which it happened, with the bytes
 * that it wrote. Files are named by their inode, so that renames need no book-keeping here and no
 * table of descriptors exists that a child after vfork could spoil. Calls whose effect the log
 * cannot hold end the process: a record that lacks something would prove nothing.
 *
 * USID_RECORD_DIR: the directory, absolute, no links. USID_RECORD_LOG: the log, outside of it.
 * The log's records are read by support/recording.py, where their layout is described.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    CREATE = 1, MKDIR, WRITE, TRUNCATE, EXTEND, SYNC_BEGIN, SYNC_END, RENAME, LINK, UNLINK, RMDIR,
};

struct head {
    uint32_t nbytes; /* of the whole record */
    uint16_t kind;
    uint16_t name_bytes;
    uint16_t other_bytes;
    uint16_t failed;
    uint32_t unused;
    uint64_t inode;
    uint64_t number; /* offset, size, or what joins a sync's two records */
} __attribute__((packed));

#define REAL(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) real_;                                                            \
        if (real_ == NULL)                                                                         \
            real_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                    \
        real_;                                                                                     \
    })

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *directory;
static size_t directory_bytes;
static int log_fd = -1;
static atomic_uint syncs;

static void refuse(const char *what)
{
    dprintf(STDERR_FILENO, "recorder: %s cannot be recorded\n", what);
    abort();
}

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("USID_RECORD_LOG");
    directory = getenv("USID_RECORD_DIR");
    if (name == NULL || directory == NULL) {
        directory = NULL;
        return;
    }
    directory_bytes = strlen(directory);
    int fd = REAL(open)(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 500); /* where nobody expects a low number */
    if (log_fd < 0)
        refuse("anything: the log cannot be opened; it");
    close(fd);
}

/* ---------------------------------------------------------------- what is watched */

static int is_inside(const char *path)
{
    return directory != NULL && strncmp(path, directory, directory_bytes) == 0 &&
           (path[directory_bytes] == '/' || path[directory_bytes] == '\0');
}

static const char *relative(const char *path)
{
    return path[directory_bytes] == '/' ? path + directory_bytes + 1 : "";
}

static int name_of(int fd, char *name)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, PATH_MAX - 1);
    if (n < 0)
        return 0;
    name[n] = '\0';
    return 1;
}

/* Makes a path absolute; returns whether it lies in the watched directory. */
static int watched_path(int at, const char *path, char *full)
{
    if (directory == NULL || path == NULL)
        return 0;
    if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX];
        if (at == AT_FDCWD ? getcwd(base, sizeof base) == NULL : !name_of(at, base))
            return 0;
        if (snprintf(full, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
            return 0;
    }
    return is_inside(full);
}

static int watched_fd(int fd, uint64_t *inode)
{
    struct stat found;
    char name[PATH_MAX];
    if (directory == NULL || fstat(fd, &found) != 0)
        return 0;
    if (!S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode))
        return 0;
    *inode = found.st_ino;
    return name_of(fd, name) && is_inside(name);
}

/* ---------------------------------------------------------------- the log */

static void append(const char *data, size_t nbytes)
{
    while (nbytes > 0) {
        ssize_t n = REAL(write)(log_fd, data, nbytes);
        if (n < 0 && errno != EINTR)
            refuse("an operation: the log cannot be written; it");
        if (n > 0) {
            data += n;
            nbytes -= (size_t)n;
        }
    }
}

/* Called with the lock held, when the operation is done. */
static void record(int kind, int failed, uint64_t inode, uint64_t number, const char *name,
                   const char *other, const void *data, size_t data_bytes)
{
    size_t name_bytes = strlen(name), other_bytes = strlen(other);
    size_t nbytes = sizeof(struct head) + name_bytes + other_bytes + data_bytes;
    char *all = malloc(nbytes);
    if (all == NULL || nbytes > UINT32_MAX)
        refuse("so large an operation");
    struct head head = {(uint32_t)nbytes, (uint16_t)kind, (uint16_t)name_bytes,
                        (uint16_t)other_bytes, (uint16_t)failed, 0, inode, number};
    char *at = mempcpy(all, &head, sizeof head);
    at = mempcpy(at, name, name_bytes);
    at = mempcpy(at, other, other_bytes);
    if (data_bytes > 0)
        memcpy(at, data, data_bytes);
    append(all, nbytes);
    free(all);
}

static void enter(void) { pthread_mutex_lock(&lock); }

static void leave(void)
{
    pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------------------- opening */

static int opened(int fd, const char *full, int flags, int was_there)
{
    struct stat found;
    if (fd < 0 || fstat(fd, &found) != 0 || !S_ISREG(found.st_mode))
        return fd;
    if (!was_there)
        record(CREATE, 0, found.st_ino, 0, relative(full), "", NULL, 0);
    else if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY)
        record(TRUNCATE, 0, found.st_ino, 0, "", "", NULL, 0);
    return fd;
}

#define OPEN(at, path, flags, call)                                                                \
    char full[PATH_MAX];                                                                           \
    if (!watched_path(at, path, full))                                                             \
        return call;                                                                               \
    if (((flags) & O_TMPFILE) == O_TMPFILE) {                                                      \
        /* With O_EXCL it never gets a name, so that nothing of it is there after a power cut. */  \
        if (!((flags) & O_EXCL))                                                                   \
            refuse("O_TMPFILE");                                                                   \
        return call;                                                                               \
    }                                                                                              \
    enter();                                                                                       \
    struct stat before;                                                                            \
    int was_there = lstat(full, &before) == 0;                                                     \
    int fd = opened(call, full, flags, was_there);                                                 \
    leave();                                                                                       \
    return fd;

#define MODE(flags)                                                                                \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags)
    OPEN(AT_FDCWD, path, flags, REAL(open)(path, flags, mode))
}

int open64(const char *path, int flags, ...)
{
    MODE(flags)
    OPEN(AT_FDCWD, path, flags, REAL(open64)(path, flags, mode))
}

int openat(int at, const char *path, int flags, ...)
{
    MODE(flags)
    OPEN(at, path, flags, REAL(openat)(at, path, flags, mode))
}

int openat64(int at, const char *path, int flags, ...)
{
    MODE(flags)
    OPEN(at, path, flags, REAL(openat64)(at, path, flags, mode))
}

int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }
int __openat_2(int at, const char *path, int flags) { return openat(at, path, flags); }
int __openat64_2(int at, const char *path, int flags) { return openat64(at, path, flags); }

int creat(const char *path, mode_t mode)
{
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode)
{
    return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static void refuse_stream(const char *path, const char *mode)
{
    char full[PATH_MAX];
    if (strpbrk(mode, "wa+") != NULL && watched_path(AT_FDCWD, path, full))
        refuse("a C stream");
}

FILE *fopen(const char *path, const char *mode)
{
    refuse_stream(path, mode);
    return REAL(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    refuse_stream(path, mode);
    return REAL(fopen64)(path, mode);
}

/* ---------------------------------------------------------------- writing */

/* Where n bytes ended that were written at a descriptor's own position. */
static uint64_t position_before(int fd, ssize_t n) { return (uint64_t)(lseek64(fd, 0, SEEK_CUR) - n); }

/* A written range of a descriptor that may append: Linux lets even pwrite append then. */
static void refuse_append(int fd)
{
    if (fcntl(fd, F_GETFL) & O_APPEND)
        refuse("a positioned write to a file that is appended to");
}

static char *joined(const struct iovec *parts, int count, size_t nbytes)
{
    char *all = malloc(nbytes + 1), *at = all;
    if (all == NULL)
        refuse("so large a write");
    for (int k = 0; k < count && nbytes > 0; k++) {
        size_t n = parts[k].iov_len < nbytes ? parts[k].iov_len : nbytes;
        at = mempcpy(at, parts[k].iov_base, n);
        nbytes -= n;
    }
    return all;
}

#define WRITE_CALL(call, offset, data, finish)                                                     \
    uint64_t inode;                                                                                \
    if (!watched_fd(fd, &inode))                                                                   \
        return call;                                                                               \
    enter();                                                                                       \
    ssize_t n = call;                                                                              \
    int error = errno;                                                                             \
    if (n > 0) {                                                                                   \
        const void *written = data;                                                                \
        record(WRITE, 0, inode, offset, "", "", written, (size_t)n);                               \
        finish;                                                                                    \
    }                                                                                              \
    leave();                                                                                       \
    errno = error;                                                                                 \
    return n;

#define AT_POSITION position_before(fd, n)
#define AT_OFFSET (refuse_append(fd), (uint64_t)offset)

ssize_t write(int fd, const void *data, size_t nbytes)
{
    WRITE_CALL(REAL(write)(fd, data, nbytes), AT_POSITION, data, )
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    WRITE_CALL(REAL(writev)(fd, parts, count), AT_POSITION, joined(parts, count, (size_t)n),
               free((void *)written))
}

ssize_t pwrite(int fd, const void *data, size_t nbytes, off_t offset)
{
    WRITE_CALL(REAL(pwrite)(fd, data, nbytes, offset), AT_OFFSET, data, )
}

ssize_t pwrite64(int fd, const void *data, size_t nbytes, off64_t offset)
{
    WRITE_CALL(REAL(pwrite64)(fd, data, nbytes, offset), AT_OFFSET, data, )
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    WRITE_CALL(REAL(pwritev)(fd, parts, count, offset), AT_OFFSET,
               joined(parts, count, (size_t)n), free((void *)written))
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    WRITE_CALL(REAL(pwritev64)(fd, parts, count, offset), AT_OFFSET,
               joined(parts, count, (size_t)n), free((void *)written))
}

static void refuse_special(int fd, off64_t offset, int flags)
{
    uint64_t inode;
    if ((flags != 0 || offset < 0) && watched_fd(fd, &inode))
        refuse("pwritev2 with flags, or without an offset");
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    refuse_special(fd, offset, flags);
    WRITE_CALL(REAL(pwritev2)(fd, parts, count, offset, flags), AT_OFFSET,
               joined(parts, count, (size_t)n), free((void *)written))
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    refuse_special(fd, offset, flags);
    WRITE_CALL(REAL(pwritev64v2)(fd, parts, count, offset, flags), AT_OFFSET,
               joined(parts, count, (size_t)n), free((void *)written))
}

/* What a call inside the kernel wrote is read back; the descriptor itself may be for writing only. */
static void *read_back(int fd, uint64_t offset, size_t nbytes)
{
    char link[64], *data = malloc(nbytes);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int reader = REAL(open)(link, O_RDONLY | O_CLOEXEC);
    if (data == NULL || reader < 0 || pread64(reader, data, nbytes, (off64_t)offset) != (ssize_t)nbytes)
        refuse("what was copied");
    close(reader);
    return data;
}

#define COPIED read_back(fd, position_before(fd, n), (size_t)n)

ssize_t sendfile(int fd, int source, off_t *offset, size_t nbytes)
{
    WRITE_CALL(REAL(sendfile)(fd, source, offset, nbytes), AT_POSITION, COPIED,
               free((void *)written))
}

ssize_t sendfile64(int fd, int source, off64_t *offset, size_t nbytes)
{
    WRITE_CALL(REAL(sendfile64)(fd, source, offset, nbytes), AT_POSITION, COPIED,
               free((void *)written))
}

ssize_t copy_file_range(int source, off64_t *from, int fd, off64_t *to, size_t nbytes,
                        unsigned flags)
{
    uint64_t into;
    if (to != NULL && watched_fd(fd, &into))
        refuse("copy_file_range to an offset");
    WRITE_CALL(REAL(copy_file_range)(source, from, fd, to, nbytes, flags), AT_POSITION, COPIED,
               free((void *)written))
}

ssize_t splice(int source, off64_t *from, int fd, off64_t *to, size_t nbytes, unsigned flags)
{
    uint64_t inode;
    if (watched_fd(fd, &inode))
        refuse("splice");
    return REAL(splice)(source, from, fd, to, nbytes, flags);
}

static void refuse_map(int fd, int protection, int flags)
{
    uint64_t inode;
    if ((flags & MAP_SHARED) && (protection & PROT_WRITE) && fd >= 0 && watched_fd(fd, &inode))
        refuse("writing through a memory map");
}

void *mmap(void *at, size_t nbytes, int protection, int flags, int fd, off_t offset)
{
    refuse_map(fd, protection, flags);
    return REAL(mmap)(at, nbytes, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t nbytes, int protection, int flags, int fd, off64_t offset)
{
    refuse_map(fd, protection, flags);
    return REAL(mmap64)(at, nbytes, protection, flags, fd, offset);
}

/* ---------------------------------------------------------------- sizes */

#define SIZE_CALL(kind, call, inode, size)                                                         \
    enter();                                                                                       \
    int result = call;                                                                             \
    int error = errno;                                                                             \
    if (result == 0)                                                                               \
        record(kind, 0, inode, (uint64_t)(size), "", "", NULL, 0);                                 \
    leave();                                                                                       \
    errno = error;                                                                                 \
    return result;

#define TRUNCATE_FD(call)                                                                          \
    uint64_t inode;                                                                                \
    if (!watched_fd(fd, &inode))                                                                   \
        return call;                                                                               \
    SIZE_CALL(TRUNCATE, call, inode, size)

int ftruncate(int fd, off_t size) { TRUNCATE_FD(REAL(ftruncate)(fd, size)) }
int ftruncate64(int fd, off64_t size) { TRUNCATE_FD(REAL(ftruncate64)(fd, size)) }

#define TRUNCATE_PATH(call)                                                                        \
    char full[PATH_MAX];                                                                           \
    struct stat found;                                                                             \
    if (!watched_path(AT_FDCWD, path, full) || stat(full, &found) != 0)                            \
        return call;                                                                               \
    SIZE_CALL(TRUNCATE, call, found.st_ino, size)

int truncate(const char *path, off_t size) { TRUNCATE_PATH(REAL(truncate)(path, size)) }
int truncate64(const char *path, off64_t size) { TRUNCATE_PATH(REAL(truncate64)(path, size)) }

#define ALLOCATE(flags, call)                                                                      \
    uint64_t inode;                                                                                \
    if (!watched_fd(fd, &inode))                                                                   \
        return call;                                                                               \
    if ((flags) & ~FALLOC_FL_KEEP_SIZE)                                                            \
        refuse("fallocate that changes what a file holds");                                        \
    if ((flags) & FALLOC_FL_KEEP_SIZE)                                                             \
        return call;                                                                               \
    SIZE_CALL(EXTEND, call, inode, offset + nbytes)

int fallocate(int fd, int flags, off_t offset, off_t nbytes)
{
    ALLOCATE(flags, REAL(fallocate)(fd, flags, offset, nbytes))
}

int fallocate64(int fd, int flags, off64_t offset, off64_t nbytes)
{
    ALLOCATE(flags, REAL(fallocate64)(fd, flags, offset, nbytes))
}

int posix_fallocate(int fd, off_t offset, off_t nbytes)
{
    ALLOCATE(0, REAL(posix_fallocate)(fd, offset, nbytes))
}

int posix_fallocate64(int fd, off64_t offset, off64_t nbytes)
{
    ALLOCATE(0, REAL(posix_fallocate64)(fd, offset, nbytes))
}

/* ---------------------------------------------------------------- syncs */

/* Not under the lock: what is written meanwhile is not covered, and other threads go on. */
static int synced(int fd, int (*real)(int))
{
    uint64_t inode;
    if (!watched_fd(fd, &inode))
        return real(fd);
    uint64_t token = (uint64_t)getpid() << 32 | atomic_fetch_add(&syncs, 1);
    enter();
    record(SYNC_BEGIN, 0, inode, token, "", "", NULL, 0);
    leave();
    int result = real(fd);
    int error = errno;
    enter();
    record(SYNC_END, result != 0, inode, token, "", "", NULL, 0);
    leave();
    errno = error;
    return result;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

int syncfs(int fd)
{
    uint64_t inode;
    if (watched_fd(fd, &inode))
        refuse("syncfs");
    return REAL(syncfs)(fd);
}

/* ---------------------------------------------------------------- names */

#define NAME_CALL(call, action)                                                                    \
    enter();                                                                                       \
    int result = call;                                                                             \
    int error = errno;                                                                             \
    if (result == 0)                                                                               \
        action;                                                                                    \
    leave();                                                                                       \
    errno = error;                                                                                 \
    return result;

static void record_names(int kind, uint64_t inode, const char *name, const char *other)
{
    record(kind, 0, inode, 0, relative(name), other == NULL ? "" : relative(other), NULL, 0);
}

static void record_made(const char *full)
{
    struct stat found;
    if (lstat(full, &found) != 0)
        refuse("a directory that cannot be looked at");
    record_names(MKDIR, found.st_ino, full, NULL);
}

#define ONE_NAME(at, path, call, action)                                                           \
    char full[PATH_MAX];                                                                           \
    if (!watched_path(at, path, full))                                                             \
        return call;                                                                               \
    NAME_CALL(call, action)

int mkdirat(int at, const char *path, mode_t mode)
{
    ONE_NAME(at, path, REAL(mkdirat)(at, path, mode), record_made(full))
}

int mkdir(const char *path, mode_t mode)
{
    ONE_NAME(AT_FDCWD, path, REAL(mkdir)(path, mode), record_made(full))
}

int unlink(const char *path)
{
    ONE_NAME(AT_FDCWD, path, REAL(unlink)(path), record_names(UNLINK, 0, full, NULL))
}

int unlinkat(int at, const char *path, int flags)
{
    ONE_NAME(at, path, REAL(unlinkat)(at, path, flags),
             record_names(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, full, NULL))
}

int rmdir(const char *path)
{
    ONE_NAME(AT_FDCWD, path, REAL(rmdir)(path), record_names(RMDIR, 0, full, NULL))
}

int remove(const char *path)
{
    char full[PATH_MAX];
    if (watched_path(AT_FDCWD, path, full))
        refuse("remove");
    return REAL(remove)(path);
}

#define TWO_NAMES(from_at, from, to_at, to, kind, call)                                            \
    char old[PATH_MAX], new[PATH_MAX];                                                             \
    int is_old = watched_path(from_at, from, old), is_new = watched_path(to_at, to, new);          \
    if (!is_old && !is_new)                                                                        \
        return call;                                                                               \
    if (is_old != is_new)                                                                          \
        refuse("a name that enters or leaves the directory");                                      \
    NAME_CALL(call, record_names(kind, 0, old, new))

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    TWO_NAMES(from_at, from, to_at, to, RENAME, REAL(renameat)(from_at, from, to_at, to))
}

int rename(const char *from, const char *to)
{
    TWO_NAMES(AT_FDCWD, from, AT_FDCWD, to, RENAME, REAL(rename)(from, to))
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    char full[PATH_MAX];
    if (flags != 0 && (watched_path(from_at, from, full) || watched_path(to_at, to, full)))
        refuse("renameat2 with flags");
    TWO_NAMES(from_at, from, to_at, to, RENAME, REAL(renameat2)(from_at, from, to_at, to, flags))
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    TWO_NAMES(from_at, from, to_at, to, LINK, REAL(linkat)(from_at, from, to_at, to, flags))
}

int link(const char *from, const char *to)
{
    TWO_NAMES(AT_FDCWD, from, AT_FDCWD, to, LINK, REAL(link)(from, to))
}

int symlinkat(const char *target, int at, const char *path)
{
    char full[PATH_MAX];
    if (watched_path(at, path, full))
        refuse("a symbolic link");
    return REAL(symlinkat)(target, at, path);
}

int symlink(const char *target, const char *path)
{
    char full[PATH_MAX];
    if (watched_path(AT_FDCWD, path, full))
        refuse("a symbolic link");
    return REAL(symlink)(target, path);
}
