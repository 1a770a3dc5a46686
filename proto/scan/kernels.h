/* The passes, included once for each width of vector. Before it: NAME(x), a name of this width's
 * own; TARGET, what else the compiler may use; WIDTH, in bytes. Compilers make SSE2, AVX2 or NEON
 * of the vectors, and plain C where there is none of them. */
typedef unsigned char NAME(Bytes) __attribute__((vector_size(WIDTH)));
typedef union {
    NAME(Bytes) vector;
    unsigned char bytes[WIDTH];
    uint64_t words[WIDTH / 8];
} NAME(Lanes);

/* How many newlines there are. `*odd`: whether a line begins with \n or \r, and so may be blank. */
TARGET
static size_t NAME(count)(const unsigned char *data, size_t size, int *odd)
{
    const NAME(Bytes) newline = (NAME(Bytes)){0} + '\n', carriage = (NAME(Bytes)){0} + '\r';
    NAME(Lanes) suspect = {.vector = {0}};
    size_t at = size > 0, lines = at && data[0] == '\n'; /* the first byte has none before it */
    *odd = at && (data[0] == '\n' || data[0] == '\r');
    while (size - at >= WIDTH) {
        NAME(Lanes) counts = {.vector = {0}};
        const unsigned char *from = data + at;
        size_t turns = (size - at) / WIDTH;
        turns = turns < 255 ? turns : 255;
        at += turns * WIDTH;
        for (size_t turn = 0; turn < turns; turn++, from += WIDTH) {
            NAME(Bytes) before, here, ends;
            memcpy(&before, from - 1, WIDTH);
            memcpy(&here, from, WIDTH);
            ends = (NAME(Bytes))(here == newline);
            counts.vector -= ends; /* what is true is 255: this adds one, 255 times at most */
            ends |= (NAME(Bytes))(here == carriage);
            suspect.vector |= ends & (NAME(Bytes))(before == newline);
        }
        for (int lane = 0; lane < WIDTH; lane++)
            lines += counts.bytes[lane];
    }
    for (; at < size; at++) {
        lines += data[at] == '\n';
        *odd |= data[at - 1] == '\n' && (data[at] == '\n' || data[at] == '\r');
    }
    for (int word = 0; word < WIDTH / 8; word++)
        *odd |= suspect.words[word] != 0;
    return lines;
}

/* Where the next of the marks stands from `at` on, or `size`. */
TARGET
static size_t NAME(next)(const Marks *marks, const unsigned char *data, size_t size, size_t at)
{
    NAME(Bytes) first[MOST], second[MOST];
    for (size_t k = 0; k < marks->count; k++) {
        first[k] = (NAME(Bytes)){0} + marks->list[k].text[marks->list[k].first];
        second[k] = (NAME(Bytes)){0} + marks->list[k].text[marks->list[k].second];
    }
    for (; size - at >= WINDOW + REACH; at += WINDOW) {
        NAME(Lanes) any = {.vector = {0}};
        uint64_t seen = 0;
        for (size_t k = 0; k < marks->count; k++) {
            const unsigned char *one = data + at + marks->list[k].first;
            const unsigned char *other = data + at + marks->list[k].second;
            for (size_t part = 0; part < WINDOW; part += WIDTH) {
                NAME(Bytes) here, there;
                memcpy(&here, one + part, WIDTH);
                memcpy(&there, other + part, WIDTH);
                any.vector |= (NAME(Bytes))(here == first[k]) & (NAME(Bytes))(there == second[k]);
            }
        }
        for (size_t word = 0; word < WIDTH / 8; word++)
            seen |= any.words[word];
        for (size_t near = 0; seen && near < WINDOW; near++)
            if (near % 8 == 0 && !any.words[near % WIDTH / 8])
                near += 7; /* none of these eight */
            else if (any.bytes[near % WIDTH] && stands_at(marks, data, size, at + near))
                return at + near;
    }
    for (; at < size; at++)
        if (stands_at(marks, data, size, at))
            return at;
    return size;
}

#include "arrays.h"

#undef NAME
#undef TARGET
#undef WIDTH
