/* The pass that splits an array of records, included by kernels.h for each width of vector.
 *
 * It takes 64 bytes at a time, one bit for each. Quotes that nothing escapes open and close strings:
 * whether a byte is in one is the parity of the quotes up to it. Outside strings, brackets are depth,
 * and commas at depth one end records. Values are not looked at. */

#ifdef __SSE2__
typedef char NAME(Signed) __attribute__((vector_size(WIDTH)));
#define BITS_16(mask) (uint16_t)__builtin_ia32_pmovmskb128((Signed_16)(mask))
#define BITS_32(mask) (uint32_t)__builtin_ia32_pmovmskb256((Signed_32)(mask))
#endif

/* One bit for each byte of a comparison's result; the first byte has the lowest. */
TARGET
static inline uint64_t NAME(bits)(NAME(Bytes) mask)
{
#ifdef __SSE2__
    return NAME(BITS)(mask);
#else
    NAME(Lanes) lanes = {.vector = mask};
    uint64_t bits = 0;
    for (size_t word = 0; word < WIDTH / 8; word++) { /* a product gathers 8 bits in its top byte */
        uint64_t eight = lanes.words[word];
        if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
            eight = __builtin_bswap64(eight);
        bits |= (eight & 0x8040201008040201) * 0x0101010101010101 >> 56 << word * 8;
    }
    return bits;
#endif
}

TARGET
static inline Seen NAME(look)(const unsigned char *data)
{
    Seen seen = {0};
    for (size_t part = 0; part < 64; part += WIDTH) {
        NAME(Bytes) here, zero = {0};
        memcpy(&here, data + part, WIDTH);
        NAME(Bytes) folded = here | (zero + ' '); /* [ becomes {, and ] becomes } */
        seen.quotes |= NAME(bits)((NAME(Bytes))(here == zero + '"')) << part;
        seen.escapes |= NAME(bits)((NAME(Bytes))(here == zero + '\\')) << part;
        seen.commas |= NAME(bits)((NAME(Bytes))(here == zero + ',')) << part;
        seen.newlines |= NAME(bits)((NAME(Bytes))(here == zero + '\n')) << part;
        seen.brackets |= NAME(bits)((NAME(Bytes))(folded == zero + '{')
                                    | (NAME(Bytes))(folded == zero + '}')) << part;
    }
    return seen;
}

/* Write the records of the array whose first one begins at `at` to `out`, as lines. Return how many
 * bytes they have; -1 if there is anything that the Python code has to look at. */
TARGET
static Py_ssize_t NAME(split)(const unsigned char *data, size_t size, size_t at, unsigned char *out,
                             size_t *lines)
{
    size_t depth = 1, start = at, newlines_until = 0, written = 0;
    uint64_t in_string = 0, escaped = 0; /* all bits, and the lowest, of what continues */
    unsigned char last[64] = {0};
    for (; at < size; at += 64) {
        if (size - at < 64)
            memcpy(last, data + at, size - at);
        Seen seen = NAME(look)(size - at < 64 ? last : data + at);
        uint64_t strings = parity(seen.quotes & ~find_escaped(seen.escapes, &escaped)) ^ in_string;
        if (seen.escapes & ~strings)
            return -1; /* outside a string a backslash escapes nothing */
        in_string = 0 - (strings >> 63);
        if (seen.newlines)
            newlines_until = at + 64;
        uint64_t brackets = seen.brackets & ~strings, commas = seen.commas & ~strings, marks;
        while ((marks = depth == 1 ? brackets | commas : brackets)) {
            size_t bit = (size_t)__builtin_ctzll(marks), here = at + bit;
            brackets &= ~(uint64_t)1 << bit;
            commas &= ~(uint64_t)1 << bit;
            if (data[here] == '[' || data[here] == '{') {
                depth++;
            } else if (data[here] == ',' || --depth == 0) {
                size_t end = strip(data, &start, here);
                if (start < end) {
                    written += write_line(out + written, data + start, end - start, start < newlines_until);
                    *lines += 1;
                }
                start = here + 1;
                if (depth == 0)
                    return data[here] == ']' && strip(data, &start, size) == start ? (Py_ssize_t)written : -1;
            }
        }
    }
    return -1;
}
