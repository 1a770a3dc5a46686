/* How much of a CPU there is while the function starts: what `lambda.start = "auto"` goes by. */
#ifndef TELEMETRYD_SHARE_H
#define TELEMETRYD_SHARE_H

/* In the environment, as telemetryd/extension/boot.py reads it: a large share was measured. */
#define LARGE_SHARE "TELEMETRYD_LARGE_SHARE"

/* Memory of the function in MB; 0 if unknown. */
long share_memory_mb(void);

enum share { SHARE_SMALL, SHARE_LARGE, SHARE_UNKNOWN };

/* Measure which part of a CPU this process and the function's runtime get together: less than a third
 * is small. `fd` has sent `register`: the runtime starts after its answer, which is waited for and not
 * read.
 *
 * A group of processes that has used up its share is stopped until the next period, so who naps wakes
 * up late. This naps for some 12 ms while the runtime starts, and uses 3.4 ms of CPU; where it wakes
 * up late, for some periods longer. Nothing is measured where the memory buys so large a share that
 * it makes little difference, or is not known. */
enum share share_measure(int fd);

#endif
