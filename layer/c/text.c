/* No stdio: it would double the launcher. What does not fit is cut off. */
#define _GNU_SOURCE
#include "text.h"

#include <time.h>

void put(struct text *text, const char *part)
{
    while (*part && text->length < sizeof text->bytes - 1)
        text->bytes[text->length++] = *part++;
    text->bytes[text->length] = 0;
}

void put_number(struct text *text, unsigned long number, int digits)
{
    char reversed[24], ordered[24];
    int count = 0, at = 0;
    do {
        reversed[count++] = (char)('0' + number % 10);
        number /= 10;
    } while ((number || count < digits) && count < 20);
    while (count)
        ordered[at++] = reversed[--count];
    ordered[at] = 0;
    put(text, ordered);
}

void put_json(struct text *text, const char *part)
{
    char one[3] = {0};
    for (; *part; part++) {
        int escaped = *part == '"' || *part == '\\';
        one[0] = escaped ? '\\' : ((unsigned char)*part < ' ' ? ' ' : *part);
        one[1] = escaped ? *part : 0;
        put(text, one);
    }
}

void put_time(struct text *text)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    put_number(text, (unsigned long)utc.tm_year + 1900, 4);
    put(text, "-");
    put_number(text, (unsigned long)utc.tm_mon + 1, 2);
    put(text, "-");
    put_number(text, (unsigned long)utc.tm_mday, 2);
    put(text, "T");
    put_number(text, (unsigned long)utc.tm_hour, 2);
    put(text, ":");
    put_number(text, (unsigned long)utc.tm_min, 2);
    put(text, ":");
    put_number(text, (unsigned long)utc.tm_sec, 2);
    put(text, ".");
    put_number(text, (unsigned long)now.tv_nsec / 1000000, 3);
    put(text, "Z");
}
