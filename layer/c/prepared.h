/* Settings that were prepared when the layer was built (layer/build.py --config). */
#ifndef TELEMETRYD_PREPARED_H
#define TELEMETRYD_PREPARED_H

#define PREPARED "/prepared" /* beside the interpreter: NAME=VALUE, each ended by a NUL */

/* Put them into the environment, except those that are there: a variable overrides them. Nothing is
 * done where there is a configuration file, which stands in their place. `interpreter` is its path. */
void prepared_apply(const char *interpreter);

#endif
