/* What the launcher has to know of the configuration if it is to stand in for the interpreter. */
#ifndef TELEMETRYD_SETTINGS_H
#define TELEMETRYD_SETTINGS_H

#include "text.h"

struct settings {
    int measured; /* `lambda.start` is "auto": park where little of a CPU is measured */
    const char *host;
    long port, max_items, max_bytes, timeout_ms, max_silence_ms;
    struct text types; /* as JSON has them */
};

/* Whether `lambda.start` is "park" or "auto", and everything else that matters until the interpreter runs is
 * plain enough for C: in variables, and of the kinds that settings.c lists. What is not, such as a
 * file, only the interpreter can read: then it has to start at once. */
int settings_to_park(struct settings *settings);

/* Whether there is a configuration file at a default path, or may be one. */
int settings_have_file(void);

#endif
