/* So the interpreter reads no TOML before `next`, and the launcher can judge the settings. */
#define _GNU_SOURCE
#include "prepared.h"
#include "settings.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define MOST_BYTES (64 * 1024) /* as telemetryd/config/prepared.py has it */
#define NAMED "TELEMETRYD_CONFIG="

extern char **environ;

static char prepared[MOST_BYTES + 1];

/* The value of a variable, whose name ends with `=` and counts in any case; NULL without one. */
static const char *value_of(const char *name, size_t length)
{
    for (char **variable = environ; *variable; variable++)
        if (strncasecmp(*variable, name, length) == 0)
            return *variable + length;
    return NULL;
}

static size_t read_beside(const char *interpreter)
{
    char path[PATH_MAX + sizeof PREPARED];
    size_t size = 0;
    ssize_t count = 0;
    const char *slash = strrchr(interpreter, '/');
    size_t length = slash ? (size_t)(slash - interpreter) : 0;
    memcpy(path, interpreter, length);
    strcpy(path + length, PREPARED);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* nothing was prepared */
    while (size < MOST_BYTES && (count = read(fd, prepared + size, MOST_BYTES - size)) > 0)
        size += (size_t)count;
    close(fd);
    return count < 0 ? 0 : size;
}

void prepared_apply(const char *interpreter)
{
    const char *named = value_of(NAMED, sizeof NAMED - 1);
    if ((named && *named) || settings_have_file())
        return;
    size_t size = read_beside(interpreter);
    for (char *at = prepared, *end = at + size; at < end; at += strlen(at) + 1) {
        const char *equals = strchr(at, '=');
        if (equals && !value_of(at, (size_t)(equals + 1 - at)))
            putenv(at);
    }
}
