/* Planes of bytes become a zlib stream: the loops of HDF5's shuffle and deflate, without the GIL.

   What an instrument sends is noise on something smooth. Once its bytes are shuffled, a plane holds
   few values that come in no order (signs and exponents, high bytes), and a search for earlier
   matches, where every deflate library spends its time, finds next to nothing in it. So here is none:
   a block of BLOCK_NBYTES is coded by the frequencies of its bytes (a Huffman code of its own, RFC
   1951, section 3.2.7), repeats of one byte are the only matches (distance 1), and a block that would
   not shrink is stored. That is twice as fast as a fast search, and mostly smaller, for a code that
   is spared the entries of matches is shorter. Planes in which matches do pay are given to a deflate
   library by the caller, and its blocks are put between ours.

   Bytes that another thread changes meanwhile make a stream of no use, but nothing is ever written
   out of bounds: a block that did not take the room that was counted for it is stored.

   Knows bytes only; keeps nothing between calls, so that any number of threads may run. What decides
   how a plane is treated stands in gzip.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Microsoft's compiler tells no byte order, for all its targets have this one. Whether it takes this
   file has not been tried. */
#if !defined(_MSC_VER) &&                                                                        \
    (!defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
#error "Words are read and written as little-endian; without this module the codec uses numpy."
#endif

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
/* Loops have a second form for processors that know more; which one runs is decided at loading. */
#define FASTER_WITH(instructions) __attribute__((target_clones(instructions, "default")))
#else
#define FASTER_WITH(instructions)
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define RARELY(condition) __builtin_expect(!!(condition), 0)
#elif defined(_MSC_VER)
#define INLINE static __forceinline
#define restrict __restrict /* its own name, whatever version of C it was asked for */
#define RARELY(condition) (condition)
#else
#define INLINE static inline
#define RARELY(condition) (condition)
#endif

enum {
    BLOCK_NBYTES = 32 << 10, /* long enough to pay for its code, short enough to follow the data */
    N_BYTES = 256,           /* literals: the values of a byte */
    END_OF_BLOCK = 256,
    FIRST_LENGTH = 257, /* the symbol of a match of three bytes */
    N_SYMBOLS = 286,    /* literals, the end, and lengths (3.2.5) */
    N_DISTANCES = 2,    /* distance 1 is used; with a second code of one bit the set is complete */
    MAX_CODE_BITS = 12, /* four codes and what is left of the last byte fit into a word */
    N_LENGTH_SYMBOLS = 19,
    MAX_LENGTH_BITS = 7,
    MIN_RUN = 3,
    MAX_RUN = 258,
    MAX_STORED_NBYTES = 65535,
    MAX_ITEMS = N_SYMBOLS + N_DISTANCES,
    SLACK_NBYTES = 16, /* a flush writes a whole word where a byte may be all that counts */
    MAX_HEAD_BITS = 17 + 3 * N_LENGTH_SYMBOLS + MAX_ITEMS * (MAX_LENGTH_BITS + 7),
    /* What a block may take beyond its own bytes before it is found to: put_block. */
    MAX_EXCESS_NBYTES = (MAX_HEAD_BITS + (MAX_CODE_BITS - 8) * BLOCK_NBYTES + MAX_CODE_BITS) / 8 + 1,
};

/* A coded block must be smaller than a stored one by a tenth; gzip.py says why. */
#define WORTH_CODING(n_bits, nbytes) ((n_bits) * 10 <= (uint64_t)(nbytes) * 8 * 9)

/* Bits, the first of them in the lowest place (3.1.1); up to 7 wait for their byte to be full. */

typedef struct {
    uint64_t word;
    unsigned n_bits;
    uint8_t *next;
} Bits;

INLINE void put(Bits *bits, uint64_t value, unsigned n_bits) {
    bits->word |= value << bits->n_bits;
    bits->n_bits += n_bits;
}

INLINE void flush(Bits *bits) {
    memcpy(bits->next, &bits->word, 8);
    bits->next += bits->n_bits >> 3;
    bits->word >>= bits->n_bits & ~7u;
    bits->n_bits &= 7;
}

static void put_stored(Bits *bits, const uint8_t *bytes, size_t nbytes, bool is_last) {
    do {
        size_t part = nbytes < MAX_STORED_NBYTES ? nbytes : MAX_STORED_NBYTES;
        uint32_t lengths = (uint32_t)part | (~(uint32_t)part & 0xffff) << 16;
        put(bits, is_last && part == nbytes, 3);
        bits->n_bits = (bits->n_bits + 7) & ~7u;
        flush(bits);
        memcpy(bits->next, &lengths, 4);
        memcpy(bits->next + 4, bytes, part);
        bits->next += 4 + part;
        bytes += part;
        nbytes -= part;
    } while (nbytes > 0);
}

static void put_empty(Bits *bits, bool is_last) {
    put_stored(bits, (const uint8_t *)"", 0, is_last);
}

/* Return how many bits lie between two places. */
static uint64_t bits_between(const Bits *from, const Bits *to) {
    return (uint64_t)(to->next - from->next) * 8 + to->n_bits - from->n_bits;
}

/* Codes: the shortest for given frequencies, none longer than a limit. */

typedef struct {
    uint16_t code[N_SYMBOLS]; /* its first bit lowest */
    uint8_t length[N_SYMBOLS];
} Code;

/* Sort symbols by frequency; return how many occur. A frequency has at most 18 bits. */
static int sort_by_frequency(const uint32_t *frequency, int n_symbols, uint32_t *sorted) {
    uint32_t other[N_SYMBOLS];
    int n = 0;
    for (int symbol = 0; symbol < n_symbols; symbol++)
        if (frequency[symbol]) sorted[n++] = frequency[symbol] << 9 | (uint32_t)symbol;
    for (int digit = 9; digit < 27; digit += 9) {
        uint16_t start[513] = {0};
        for (int i = 0; i < n; i++) start[(sorted[i] >> digit & 511) + 1]++;
        for (int i = 0; i < 512; i++) start[i + 1] += start[i];
        for (int i = 0; i < n; i++) other[start[sorted[i] >> digit & 511]++] = sorted[i];
        memcpy(sorted, other, (size_t)n * sizeof *sorted);
    }
    return n;
}

/* Count the leaves of Huffman's tree at each depth, for two and more ascending weights; those that
   lie deeper than the limit are counted there. In place, after Moffat and Katajainen (1995): the
   weights of nodes, then their parents, then their depths take the place of the leaves' weights. */
static void count_lengths(uint32_t *weight, int n, int limit, int *n_of_length) {
    int leaf = 0, node = 0;
    for (int parent = 0; parent < n - 1; parent++) {
        uint32_t sum = 0;
        for (int child = 0; child < 2; child++) {
            if (leaf >= n || (node < parent && weight[node] < weight[leaf])) {
                sum += weight[node];
                weight[node++] = (uint32_t)parent;
            } else {
                sum += weight[leaf++];
            }
        }
        weight[parent] = sum;
    }
    weight[n - 2] = 0;
    for (int i = n - 3; i >= 0; i--) weight[i] = weight[weight[i]] + 1;
    int next = n - 2;
    for (int depth = 0, available = 1; available > 0; depth++) {
        int n_nodes = 0;
        for (; next >= 0 && weight[next] == (uint32_t)depth; next--) n_nodes++;
        n_of_length[depth < limit ? depth : limit] += available - n_nodes;
        available = 2 * n_nodes;
    }
}

/* Lengthen short codes until those that were cut at the limit have room (Kraft's sum is one). */
static void make_room(int *n_of_length, int limit) {
    uint32_t taken = 0;
    for (int length = 1; length <= limit; length++)
        taken += (uint32_t)n_of_length[length] << (limit - length);
    for (; taken > 1u << limit; taken--) {
        int length = limit - 1;
        while (!n_of_length[length]) length--;
        n_of_length[length]--;
        n_of_length[length + 1] += 2;
        n_of_length[limit]--;
    }
}

/* Number codes in the order of their lengths, and of symbols within a length (3.2.2). */
static void number_codes(Code *code, int n_symbols, const int *n_of_length, int limit) {
    uint32_t next[16] = {0}, first = 0;
    for (int length = 1; length <= limit; length++) {
        next[length] = first;
        first = (first + (uint32_t)n_of_length[length]) << 1;
    }
    for (int symbol = 0; symbol < n_symbols; symbol++) {
        unsigned length = code->length[symbol], reversed = 0;
        uint32_t value = length ? next[length]++ : 0;
        for (unsigned i = 0; i < length; i++, value >>= 1) reversed = reversed << 1 | (value & 1);
        code->code[symbol] = (uint16_t)reversed;
    }
}

/* Two symbols at least must occur. */
static void make_code(Code *code, const uint32_t *frequency, int n_symbols, int limit) {
    uint32_t sorted[N_SYMBOLS], weight[N_SYMBOLS];
    int n_of_length[16] = {0};
    int n = sort_by_frequency(frequency, n_symbols, sorted);
    for (int i = 0; i < n; i++) weight[i] = sorted[i] >> 9;
    count_lengths(weight, n, limit, n_of_length);
    make_room(n_of_length, limit);
    memset(code->length, 0, sizeof code->length);
    for (int length = limit, i = 0; length > 0; length--)
        for (int left = n_of_length[length]; left > 0; left--)
            code->length[sorted[i++] & 511] = (uint8_t)length;
    number_codes(code, n_symbols, n_of_length, limit);
}

/* A block's head: its code, told by the lengths alone, themselves in runs and coded (3.2.7). */

static const uint8_t LENGTHS_ORDER[N_LENGTH_SYMBOLS] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                        11, 4,  12, 3, 13, 2, 14, 1, 15};

enum { REPEAT = 16, FEW_ZEROS = 17, MANY_ZEROS = 18 };

typedef struct {
    uint8_t symbol[MAX_ITEMS];
    uint8_t repeats[MAX_ITEMS];
    int n_items;
    int n_symbols; /* of literals and lengths */
    int n_told;    /* lengths of the lengths' own code */
    Code code;
    uint64_t n_bits;
} Head;

static unsigned repeat_bits(unsigned symbol) {
    return symbol == REPEAT ? 2 : symbol == FEW_ZEROS ? 3 : symbol == MANY_ZEROS ? 7 : 0;
}

static void add_item(Head *head, uint32_t *frequency, int symbol, int repeats) {
    head->symbol[head->n_items] = (uint8_t)symbol;
    head->repeats[head->n_items++] = (uint8_t)repeats;
    frequency[symbol]++;
}

static void add_run(Head *head, uint32_t *frequency, int length, int n) {
    if (length != 0) {
        add_item(head, frequency, length, 0);
        n--;
    }
    while (n >= 3) {
        int most = length ? 6 : 138, part = n < most ? n : most;
        if (length) add_item(head, frequency, REPEAT, part - 3);
        else if (part < 11) add_item(head, frequency, FEW_ZEROS, part - 3);
        else add_item(head, frequency, MANY_ZEROS, part - 11);
        n -= part;
    }
    for (; n > 0; n--) add_item(head, frequency, length, 0);
}

static void make_head(Head *head, const Code *code) {
    uint8_t lengths[MAX_ITEMS];
    uint32_t frequency[N_LENGTH_SYMBOLS] = {0};
    int n_symbols = N_SYMBOLS;
    while (n_symbols > FIRST_LENGTH && !code->length[n_symbols - 1]) n_symbols--;
    memcpy(lengths, code->length, (size_t)n_symbols);
    memset(lengths + n_symbols, 1, N_DISTANCES);
    head->n_symbols = n_symbols;
    head->n_items = 0;
    for (int i = 0, end; i < n_symbols + N_DISTANCES; i = end) {
        for (end = i + 1; end < n_symbols + N_DISTANCES && lengths[end] == lengths[i];) end++;
        add_run(head, frequency, lengths[i], end - i);
    }
    make_code(&head->code, frequency, N_LENGTH_SYMBOLS, MAX_LENGTH_BITS);
    head->n_told = N_LENGTH_SYMBOLS;
    while (head->n_told > 4 && !head->code.length[LENGTHS_ORDER[head->n_told - 1]]) head->n_told--;
    head->n_bits = 3 + 5 + 5 + 4 + 3 * (uint64_t)head->n_told;
    for (unsigned symbol = 0; symbol < N_LENGTH_SYMBOLS; symbol++)
        head->n_bits +=
            (uint64_t)frequency[symbol] * (head->code.length[symbol] + repeat_bits(symbol));
}

static void put_head(Bits *bits, const Head *head) {
    put(bits, 2 << 1, 3); /* not the last; a code of its own */
    put(bits, (uint64_t)(head->n_symbols - FIRST_LENGTH), 5);
    put(bits, N_DISTANCES - 1, 5);
    put(bits, (uint64_t)(head->n_told - 4), 4);
    flush(bits);
    for (int i = 0; i < head->n_told; i++) {
        put(bits, head->code.length[LENGTHS_ORDER[i]], 3);
        flush(bits);
    }
    for (int i = 0; i < head->n_items; i++) {
        unsigned symbol = head->symbol[i];
        put(bits, head->code.code[symbol], head->code.length[symbol]);
        put(bits, head->repeats[i], repeat_bits(symbol));
        flush(bits);
    }
}

/* What a block is made of: bytes, eight at a time, and repeats of the byte before. */

typedef struct {
    void (*byte)(void *, uint8_t);
    void (*word)(void *, uint64_t);
    void (*run)(void *, unsigned);
} Visitor;

INLINE uint64_t word_at(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

/* Eight bytes equal those one place before them: all nine are the same. */
INLINE bool is_repeat(const uint8_t *bytes) {
    return word_at(bytes) == word_at(bytes - 1);
}

INLINE void visit_run(size_t length, Visitor visitor, void *to) {
    while (length > 0) {
        size_t part = length < MAX_RUN ? length : MAX_RUN;
        if (length > MAX_RUN && length - MAX_RUN < MIN_RUN) part = MAX_RUN - MIN_RUN;
        visitor.run(to, (unsigned)part);
        length -= part;
    }
}

INLINE void visit(const uint8_t *bytes, size_t nbytes, Visitor visitor, void *to) {
    const uint8_t *end = bytes + nbytes;
    visitor.byte(to, *bytes++);
    while (end - bytes >= 8) {
        if (RARELY(is_repeat(bytes))) {
            const uint8_t *start = bytes;
            for (bytes += 8; end - bytes >= 8 && is_repeat(bytes);) bytes += 8;
            while (bytes < end && *bytes == bytes[-1]) bytes++;
            visit_run((size_t)(bytes - start), visitor, to);
        } else {
            visitor.word(to, word_at(bytes));
            bytes += 8;
        }
    }
    while (bytes < end) visitor.byte(to, *bytes++);
}

/* The symbol of a match's length, and what distinguishes it from others of that symbol (3.2.5). */

typedef struct {
    unsigned symbol, extra, n_extra;
} Length;

INLINE Length length_of(unsigned nbytes) {
    if (nbytes == MAX_RUN) return (Length){N_SYMBOLS - 1, 0, 0};
    unsigned left = nbytes - MIN_RUN, n_extra = 0;
    while (left >> n_extra >= 8) n_extra++;
    return (Length){FIRST_LENGTH + (n_extra << 2) + (left >> n_extra),
                    left & ((1u << n_extra) - 1), n_extra};
}

/* Before anything else, a look: is it noise? An entropy is never less than the collision entropy,
   -log2(sum of squared frequencies) (Renyi, 1961), which takes no logarithm to compare. Beyond 7.2
   bits of 8 no code saves a tenth. */

enum {
    N_SLICES = 4,
    SLICE_NBYTES = 256,
    LOOK_NBYTES = N_SLICES * SLICE_NBYTES,
    MIN_LOOK_NBYTES = 8 * LOOK_NBYTES,
    COLLISIONS_OF_NOISE = LOOK_NBYTES + LOOK_NBYTES * LOOK_NBYTES / 147, /* 2^7.2 */
};

FASTER_WITH("bmi2")
static bool is_noise(const uint8_t *bytes, size_t nbytes) {
    uint16_t n_of_byte[N_SLICES][N_BYTES] = {0};
    uint32_t n_collisions = 0;
    if (nbytes < MIN_LOOK_NBYTES) return false; /* counting it all takes no longer */
    for (size_t i = 0; i < SLICE_NBYTES; i++)
        for (size_t slice = 0; slice < N_SLICES; slice++)
            n_of_byte[slice][bytes[nbytes / N_SLICES * slice + i]]++;
    for (int byte = 0; byte < N_BYTES; byte++) {
        uint32_t n = 0;
        for (int slice = 0; slice < N_SLICES; slice++) n += n_of_byte[slice][byte];
        n_collisions += n * n;
    }
    return n_collisions <= COLLISIONS_OF_NOISE;
}

/* First turn: count. Neighbours are counted apart, for one counter must not wait for itself. */

typedef struct {
    uint32_t n_of_byte[8][N_BYTES];
    uint32_t n_of_length[N_SYMBOLS - FIRST_LENGTH];
    uint64_t n_extra_bits;
} Counts;

INLINE void count_byte(void *to, uint8_t byte) { ((Counts *)to)->n_of_byte[0][byte]++; }

INLINE void count_word(void *to, uint64_t word) {
    Counts *counts = to;
    for (int i = 0; i < 8; i++, word >>= 8) counts->n_of_byte[i][word & 255]++;
}

INLINE void count_run(void *to, unsigned nbytes) {
    Counts *counts = to;
    Length length = length_of(nbytes);
    counts->n_of_length[length.symbol - FIRST_LENGTH]++;
    counts->n_extra_bits += length.n_extra + 1; /* and a bit for the distance */
}

FASTER_WITH("bmi2")
static void count(Counts *counts, const uint8_t *bytes, size_t nbytes) {
    static const Visitor counting = {count_byte, count_word, count_run};
    memset(counts, 0, sizeof *counts);
    visit(bytes, nbytes, counting, counts);
}

static void add_up(const Counts *counts, uint32_t *frequency) {
    for (int byte = 0; byte < N_BYTES; byte++) {
        frequency[byte] = 0;
        for (int i = 0; i < 8; i++) frequency[byte] += counts->n_of_byte[i][byte];
    }
    frequency[END_OF_BLOCK] = 1;
    memcpy(frequency + FIRST_LENGTH, counts->n_of_length, sizeof counts->n_of_length);
}

static uint64_t coded_bits(const Code *code, const uint32_t *frequency) {
    uint64_t n_bits = 0;
    for (int symbol = 0; symbol < N_SYMBOLS; symbol++)
        n_bits += (uint64_t)frequency[symbol] * code->length[symbol];
    return n_bits;
}

/* Second turn: put the codes. */

typedef struct {
    Bits bits;
    uint32_t entry[N_SYMBOLS]; /* a code, and its length in the lowest byte */
} Coder;

INLINE void put_symbol(Coder *coder, unsigned symbol) {
    put(&coder->bits, coder->entry[symbol] >> 8, coder->entry[symbol] & 255);
}

INLINE void put_byte(void *to, uint8_t byte) {
    Coder *coder = to;
    put_symbol(coder, byte);
    flush(&coder->bits);
}

/* Two by two, so that additions need not wait for each other. */
INLINE void put_four(Coder *coder, uint32_t four) {
    uint32_t a = coder->entry[four & 255], b = coder->entry[four >> 8 & 255];
    uint32_t c = coder->entry[four >> 16 & 255], d = coder->entry[four >> 24];
    unsigned length_ab = (a & 255) + (b & 255), length_cd = (c & 255) + (d & 255);
    uint64_t ab = a >> 8 | (uint64_t)(b >> 8) << (a & 255);
    uint64_t cd = c >> 8 | (uint64_t)(d >> 8) << (c & 255);
    put(&coder->bits, ab | cd << length_ab, length_ab + length_cd);
    flush(&coder->bits);
}

INLINE void put_word(void *to, uint64_t word) {
    put_four(to, (uint32_t)word);
    put_four(to, (uint32_t)(word >> 32));
}

INLINE void put_run(void *to, unsigned nbytes) {
    Coder *coder = to;
    Length length = length_of(nbytes);
    put_symbol(coder, length.symbol);
    put(&coder->bits, length.extra, length.n_extra);
    put(&coder->bits, 0, 1); /* distance 1 */
    flush(&coder->bits);
}

FASTER_WITH("bmi2")
static void put_codes(Bits *bits, const Code *code, const uint8_t *bytes, size_t nbytes) {
    static const Visitor putting = {put_byte, put_word, put_run};
    Coder coder = {.bits = *bits};
    for (int symbol = 0; symbol < N_SYMBOLS; symbol++)
        coder.entry[symbol] = (uint32_t)code->code[symbol] << 8 | code->length[symbol];
    visit(bytes, nbytes, putting, &coder);
    put_symbol(&coder, END_OF_BLOCK);
    flush(&coder.bits);
    *bits = coder.bits;
}

/* Put a block with a code made for it; return whether it took the bits it was to take. */
static bool put_with_code(Bits *bits, const Head *head, const Code *code, const uint8_t *bytes,
                          size_t nbytes, uint64_t n_bits) {
    const Bits start = *bits;
    put_head(bits, head);
    put_codes(bits, code, bytes, nbytes);
    if (bits_between(&start, bits) == n_bits) return true;
    *bits = start;
    return false;
}

/* Put a block of 1 to BLOCK_NBYTES bytes, coded if that is worth it. A byte is read when it is
   counted, and again when it is coded; what has changed meanwhile may have the longest code for every
   byte, or none. There is room for one such block, MAX_EXCESS_NBYTES; it is taken back and stored, so
   that no block begins beyond where the bytes before it may end. */
static void put_block(Bits *bits, const uint8_t *bytes, size_t nbytes) {
    Counts counts;
    uint32_t frequency[N_SYMBOLS];
    Code code;
    Head head;
    if (is_noise(bytes, nbytes)) {
        put_stored(bits, bytes, nbytes, false);
        return;
    }
    count(&counts, bytes, nbytes);
    add_up(&counts, frequency);
    make_code(&code, frequency, N_SYMBOLS, MAX_CODE_BITS);
    uint64_t n_bits = counts.n_extra_bits + coded_bits(&code, frequency);
    if (WORTH_CODING(n_bits, nbytes)) { /* else its head need not be known */
        make_head(&head, &code);
        n_bits += head.n_bits;
    }
    if (!WORTH_CODING(n_bits, nbytes) ||
        RARELY(!put_with_code(bits, &head, &code, bytes, nbytes, n_bits)))
        put_stored(bits, bytes, nbytes, false);
}

static void put_coded(Bits *bits, const uint8_t *bytes, size_t nbytes) {
    for (size_t at = 0; at < nbytes; at += BLOCK_NBYTES)
        put_block(bits, bytes + at, nbytes - at < BLOCK_NBYTES ? nbytes - at : BLOCK_NBYTES);
}

/* HDF5's shuffle: byte k of every element into plane k. */

/* Shifting words and casting them to bytes is what compilers vectorise. */
#define DEFINE_PICK(word_type)                                                                   \
    INLINE void pick_##word_type(const uint8_t *restrict line, size_t n, size_t k,               \
                                 uint8_t *restrict plane) {                                      \
        for (size_t i = 0; i < n; i++) {                                                         \
            word_type word;                                                                      \
            memcpy(&word, line + i * sizeof word, sizeof word);                                  \
            plane[i] = (uint8_t)(word >> 8 * k);                                                 \
        }                                                                                        \
    }
DEFINE_PICK(uint16_t)
DEFINE_PICK(uint32_t)
DEFINE_PICK(uint64_t)

INLINE void pick_any(const uint8_t *restrict line, size_t n, size_t itemsize, size_t k,
                     uint8_t *restrict plane) {
    for (size_t i = 0; i < n; i++) plane[i] = line[i * itemsize + k];
}

/* Put byte k of n elements, which lie together, beside each other. */
INLINE void pick(const uint8_t *line, size_t n, size_t itemsize, size_t k, uint8_t *plane) {
    if (itemsize == 4) pick_uint32_t(line, n, k, plane);
    else if (itemsize == 2) pick_uint16_t(line, n, k, plane);
    else if (itemsize == 8) pick_uint64_t(line, n, k, plane);
    else pick_any(line, n, itemsize, k, plane);
}

FASTER_WITH("avx2")
static void shuffle_lines(const Py_buffer *lines, const Py_buffer *planes) {
    size_t n_lines = (size_t)lines->shape[0], line_nbytes = (size_t)lines->shape[1];
    size_t itemsize = (size_t)planes->shape[0], plane_nbytes = (size_t)planes->shape[1];
    if (lines->strides[0] == lines->shape[1]) { /* they are one */
        line_nbytes *= n_lines;
        n_lines = 1;
    }
    uint8_t *plane = planes->buf;
    const uint8_t *line = lines->buf;
    size_t n = line_nbytes / itemsize;
    for (size_t i = 0; i < n_lines; i++, line += lines->strides[0], plane += n)
        for (size_t k = 0; k < itemsize; k++)
            pick(line, n, itemsize, k, plane + k * plane_nbytes);
}

/* Return whether both are as they must be; else an error is set. */
static bool can_shuffle(const Py_buffer *lines, const Py_buffer *planes) {
    if (lines->ndim != 2 || planes->ndim != 2 || lines->itemsize != 1 || planes->itemsize != 1 ||
        lines->strides[1] != 1) {
        PyErr_SetString(PyExc_ValueError, "lines and planes must be bytes in two dimensions, and "
                                          "the bytes of a line lie together.");
        return false;
    }
    if (planes->shape[0] == 0 || lines->shape[1] % planes->shape[0] || lines->len != planes->len) {
        PyErr_Format(PyExc_ValueError, "%zd lines of %zd bytes are no %zd planes of %zd bytes.",
                     lines->shape[0], lines->shape[1], planes->shape[0], planes->shape[1]);
        return false;
    }
    return true;
}

/* The stream's checksum (RFC 1950), a piece at a time: sums of small products are vectorised. */

enum {
    ADLER_BASE = 65521,
    ADLER_PIECE = 64,
    ADLER_PIECES = 80, /* 5120 bytes: sums of up to 5552 stay below 2^32 */
};

FASTER_WITH("avx2")
static uint32_t adler32(const uint8_t *bytes, size_t nbytes) {
    uint32_t a = 1, b = 0;
    int16_t weight[ADLER_PIECE];
    for (int i = 0; i < ADLER_PIECE; i++) weight[i] = (int16_t)(ADLER_PIECE - i);
    while (nbytes > 0) {
        size_t n = nbytes / ADLER_PIECE < ADLER_PIECES ? nbytes / ADLER_PIECE : ADLER_PIECES;
        for (size_t piece = 0; piece < n; piece++, bytes += ADLER_PIECE) {
            int32_t sum = 0, weighted = 0;
            for (int i = 0; i < ADLER_PIECE; i++) {
                sum += bytes[i];
                weighted += (int16_t)bytes[i] * weight[i];
            }
            b += ADLER_PIECE * a + (uint32_t)weighted;
            a += (uint32_t)sum;
        }
        nbytes -= n * ADLER_PIECE;
        for (; nbytes > 0 && nbytes < ADLER_PIECE; nbytes--) b += a += *bytes++;
        a %= ADLER_BASE;
        b %= ADLER_BASE;
    }
    return b << 16 | a;
}

/* The stream: a header, the planes' blocks, an empty last block, the checksum (RFC 1950). */

enum { STORED = 's', CODED = 'c', MATCHED = 'm' };

typedef struct {
    const uint8_t *planes;
    size_t plane_nbytes;
    const char *ways; /* of each plane */
    size_t n_planes;
    PyObject *matched; /* a tuple of bytes, which nobody can change */
} Request;

static size_t most_nbytes(const Request *request) {
    size_t nbytes = 2 + 5 + 4 + SLACK_NBYTES + MAX_EXCESS_NBYTES;
    /* A block that is not coded costs its head of five bytes. */
    size_t n_blocks = request->plane_nbytes / BLOCK_NBYTES + 1;
    nbytes += request->n_planes * (request->plane_nbytes + n_blocks * 6);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(request->matched); i++)
        nbytes += (size_t)PyBytes_GET_SIZE(PyTuple_GET_ITEM(request->matched, i)) + 6;
    return nbytes;
}

static void put_matched(Bits *bits, PyObject *blocks) {
    size_t nbytes = (size_t)PyBytes_GET_SIZE(blocks);
    if (bits->n_bits) put_empty(bits, false); /* they begin with a whole byte */
    memcpy(bits->next, PyBytes_AS_STRING(blocks), nbytes);
    bits->next += nbytes;
}

static size_t put_stream(uint8_t *stream, const Request *request) {
    Bits bits = {.next = stream + 2};
    Py_ssize_t n_matched = 0;
    memcpy(stream, "\x78\x01", 2);
    for (size_t i = 0; i < request->n_planes; i++) {
        const uint8_t *plane = request->planes + i * request->plane_nbytes;
        if (request->ways[i] == MATCHED)
            put_matched(&bits, PyTuple_GET_ITEM(request->matched, n_matched++));
        else if (request->ways[i] == CODED) put_coded(&bits, plane, request->plane_nbytes);
        else put_stored(&bits, plane, request->plane_nbytes, false);
    }
    put_empty(&bits, true);
    uint32_t checksum = adler32(request->planes, request->n_planes * request->plane_nbytes);
    for (int shift = 24; shift >= 0; shift -= 8) *bits.next++ = (uint8_t)(checksum >> shift);
    return (size_t)(bits.next - stream);
}

/* Return whether ways and given blocks belong together; else an error is set. */
static bool is_sound(const Request *request) {
    Py_ssize_t n_matched = 0;
    for (size_t i = 0; i < request->n_planes; i++) {
        char way = request->ways[i];
        n_matched += way == MATCHED;
        if (way != MATCHED && way != CODED && way != STORED) {
            PyErr_Format(PyExc_ValueError, "plane %zu is to be treated in no known way.", i);
            return false;
        }
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(request->matched); i++)
        if (!PyBytes_Check(PyTuple_GET_ITEM(request->matched, i))) {
            PyErr_SetString(PyExc_TypeError, "blocks with matches must be bytes.");
            return false;
        }
    if (n_matched != PyTuple_GET_SIZE(request->matched)) {
        PyErr_Format(PyExc_ValueError, "%zd planes have matches, and blocks of %zd are given.", n_matched,
                     PyTuple_GET_SIZE(request->matched));
        return false;
    }
    return true;
}

/* Lines are shuffled into the planes first, if there are any. */
static PyObject *stream_of(const Request *request, const Py_buffer *lines,
                           const Py_buffer *planes) {
    PyObject *stream = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)most_nbytes(request));
    if (stream == NULL) return NULL;
    size_t nbytes;
    Py_BEGIN_ALLOW_THREADS
    if (lines) shuffle_lines(lines, planes);
    nbytes = put_stream((uint8_t *)PyBytes_AS_STRING(stream), request);
    Py_END_ALLOW_THREADS
    _PyBytes_Resize(&stream, (Py_ssize_t)nbytes);
    return stream;
}

/* Take both buffers; on failure an error is set, and none is held. */
static bool take_buffers(PyObject *source, Py_buffer *lines, PyObject *target, Py_buffer *planes) {
    if (PyObject_GetBuffer(source, lines, PyBUF_STRIDES)) return false;
    if (!PyObject_GetBuffer(target, planes, PyBUF_ND | PyBUF_WRITABLE)) {
        if (can_shuffle(lines, planes)) return true;
        PyBuffer_Release(planes);
    }
    PyBuffer_Release(lines);
    return false;
}

static PyObject *checked_stream_of(Request *request, const Py_buffer *lines,
                                   const Py_buffer *planes) {
    Py_ssize_t n_planes = (Py_ssize_t)request->n_planes;
    if (n_planes < 1 || planes->len % n_planes || (lines && planes->shape[0] != n_planes)) {
        PyErr_Format(PyExc_ValueError, "%zd bytes are no %zd planes of equal length.", planes->len,
                     n_planes);
        return NULL;
    }
    request->planes = planes->buf;
    request->plane_nbytes = (size_t)(planes->len / n_planes);
    return is_sound(request) ? stream_of(request, lines, planes) : NULL;
}

PyDoc_STRVAR(zlib_stream_doc,
"zlib_stream(planes, ways, matched, lines=None)\n--\n\n"
"Return planes of bytes as one zlib stream; lines are shuffled into the planes before.");

static PyObject *zlib_stream(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *source = Py_None, *target, *ways;
    Py_buffer lines, planes;
    Request request = {0};
    /* Ways are bytes, which nobody changes between the look at them and their use. */
    if (!PyArg_ParseTuple(args, "OSO!|O", &target, &ways, &PyTuple_Type, &request.matched, &source))
        return NULL;
    request.ways = PyBytes_AS_STRING(ways);
    bool has_lines = source != Py_None;
    if (has_lines ? !take_buffers(source, &lines, target, &planes)
                  : PyObject_GetBuffer(target, &planes, PyBUF_ND) != 0)
        return NULL;
    request.n_planes = (size_t)PyBytes_GET_SIZE(ways);
    PyObject *stream = checked_stream_of(&request, has_lines ? &lines : NULL, &planes);
    PyBuffer_Release(&planes);
    if (has_lines) PyBuffer_Release(&lines);
    return stream;
}

PyDoc_STRVAR(shuffle_doc,
"shuffle(lines, planes)\n--\n\n"
"Put byte k of every element into plane k.");

static PyObject *shuffle(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *source, *target;
    Py_buffer lines, planes;
    if (!PyArg_ParseTuple(args, "OO", &source, &target)) return NULL;
    if (!take_buffers(source, &lines, target, &planes)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    shuffle_lines(&lines, &planes);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&planes);
    PyBuffer_Release(&lines);
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"shuffle", shuffle, METH_VARARGS, shuffle_doc},
    {"zlib_stream", zlib_stream, METH_VARARGS, zlib_stream_doc},
    {NULL, NULL, 0, NULL},
};

/* No state is kept, no object is made but what a call returns, and what a call reads of Python's is
   bytes, tuples and buffers that are held: so no lock is needed, and no interpreter sees another. */
static PyModuleDef_Slot SLOTS[] = {
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_planes",
    .m_doc = "Planes of bytes become a zlib stream.",
    .m_size = 0,
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__planes(void) { return PyModuleDef_Init(&MODULE); }
