/* Text of bounded size, put together piece by piece. What does not fit is cut off. */
#ifndef TELEMETRYD_TEXT_H
#define TELEMETRYD_TEXT_H

#include <stddef.h>

struct text {
    size_t length;
    char bytes[4096]; /* ends with a NUL */
};

void put(struct text *text, const char *part);

/* Put a number of at least so many digits. */
void put_number(struct text *text, unsigned long number, int digits);

/* Put the inside of a JSON string. */
void put_json(struct text *text, const char *part);

/* Put the time as `2026-03-14T10:15:30.123Z`. */
void put_time(struct text *text);

#endif
