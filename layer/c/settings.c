/* Reads variables only. What is not known here, or not written in the plainest way, means no. */
#define _GNU_SOURCE
#include "settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define PREFIX "TELEMETRYD_"
#define DEFAULT_PORT 28353 /* as telemetryd/extension/early.py has it, like all that is here */
#define RESERVED_PORT 9001
#define FIRST_PORT 1025
#define LONGEST_MS (900 * 1000)

extern char **environ;

struct number {
    const char *name;
    long low, high;
    long *value;
};

/* Whether `text` begins with `name` and goes on with what follows a name; that, or NULL. */
static const char *value_of(const char *variable, const char *name)
{
    size_t length = strlen(name);
    return strncmp(variable, name, length) == 0 && variable[length] == '=' ? variable + length + 1
                                                                           : NULL;
}

/* Whether `text` is digits only, and within bounds. */
static int read_number(const char *text, const struct number *number)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits])
        return 0;
    *number->value = strtol(text, NULL, 10);
    return *number->value >= number->low && *number->value <= number->high;
}

/* Whether `text` is some of the three kinds of events, platform events among them, each once. */
static int read_types(const char *text, struct text *types)
{
    static const char *const kinds[] = {"platform", "function", "extension"};
    unsigned seen = 0;
    types->length = 0;
    while (1) {
        size_t length = strcspn(text, ","), kind = 0;
        while (kind < 3 && (strlen(kinds[kind]) != length || strncmp(text, kinds[kind], length)))
            kind++;
        if (kind == 3 || seen & 1U << kind)
            return 0;
        put(types, seen ? ",\"" : "\"");
        put(types, kinds[kind]);
        put(types, "\"");
        seen |= 1U << kind;
        if (!text[length])
            return seen & 1;
        text += length + 1;
    }
}

static int is_one_of(const char *text, const char *first, const char *second)
{
    return strcmp(text, first) == 0 || strcmp(text, second) == 0;
}

/* Whether a variable of ours is understood, or does not matter before the interpreter runs. */
static int understand(const char *variable, struct settings *settings, const struct number *numbers)
{
    /* sections that only what comes later looks at */
    static const char *const later[] = {"SINKS__", "MEMORY__", "DEAD_LETTER__", "LOG__", "TAGS__"};
    /* and keys of the others */
    static const char *const ignored[] = {
        "TELEMETRY__TOKEN",       "TELEMETRY__MAX_LINE_BYTES",  "TELEMETRY__TAIL_BUDGET_BYTES",
        "TELEMETRY__TRUST",       "TELEMETRY__MAX_CONNECTIONS", "TELEMETRY__IDLE_SECONDS",
        "FLUSH__INTERVAL_MS",     "FLUSH__MAX_AGE_MS",          "FLUSH__MARGIN_MS",
        "FLUSH__SHUTDOWN_MS",     "LAMBDA__LAST_RESORT",        "LAMBDA__START",
        "REGISTER_FD",            "LOCAL",                      "TAGS",
    };
    const char *name = variable + strlen(PREFIX), *value;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (strncmp(name, later[i], strlen(later[i])) == 0)
            return 1;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        if (value_of(name, ignored[i]))
            return 1;
    for (; numbers->name; numbers++)
        if ((value = value_of(name, numbers->name)))
            return read_number(value, numbers);
    if ((value = value_of(name, "TELEMETRY__HOST")))
        return *(settings->host = value) != 0;
    if ((value = value_of(name, "TELEMETRY__TYPES")))
        return read_types(value, &settings->types);
    if ((value = value_of(name, "TELEMETRY__PROTOCOL")))
        return is_one_of(value, "tcp", "auto"); /* what refuses TCP is the interpreter's matter */
    if ((value = value_of(name, "TELEMETRY__SCHEMA_VERSION")))
        return strcmp(value, "2025-01-29") == 0;
    if ((value = value_of(name, "FLUSH__STRATEGY")))
        return is_one_of(value, "auto", "invocation");
    if ((value = value_of(name, "LAMBDA__NEXT")))
        return is_one_of(value, "auto", "early");
    if ((value = value_of(name, "LAMBDA__EVENTS")))
        return strcmp(value, "auto") == 0;
    value = value_of(name, "CONFIG");
    return value && !*value;
}

int settings_have_file(void)
{
    static const char *const places[] = {"/var/task/telemetryd.toml", "/opt/telemetryd.toml"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (access(places[i], F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR))
            return 1;
    return 0;
}

/* Whether this is an environment that is made for a caller who waits: not one that is prepared
 * ahead (provisioned), nor one that has no INVOKE (managed) or is copied (SnapStart). */
static int is_on_demand(void)
{
    const char *type = getenv("AWS_LAMBDA_INITIALIZATION_TYPE");
    return !type || !*type || strcmp(type, "on-demand") == 0;
}

int settings_to_park(struct settings *settings)
{
    long max_added_ms = 200;
    const struct number numbers[] = {
        {"TELEMETRY__PORT", 0, 65535, &settings->port},
        {"TELEMETRY__BUFFERING__MAX_ITEMS", 1000, 10000, &settings->max_items},
        {"TELEMETRY__BUFFERING__MAX_BYTES", 262144, 1048576, &settings->max_bytes},
        {"TELEMETRY__BUFFERING__TIMEOUT_MS", 25, 30000, &settings->timeout_ms},
        {"FLUSH__MAX_SILENCE_MS", 100, LONGEST_MS, &settings->max_silence_ms},
        {"FLUSH__MAX_ADDED_MS", 0, LONGEST_MS, &max_added_ms},
        {0},
    };
    const char *start = getenv(PREFIX "LAMBDA__START");
    *settings = (struct settings){.host = "::",
                                  .port = DEFAULT_PORT,
                                  .max_items = 10000,
                                  .max_bytes = 1048576,
                                  .timeout_ms = 25,
                                  .max_silence_ms = 30000};
    start = start ? start : "auto";
    settings->measured = strcmp(start, "auto") == 0;
    if (!is_one_of(start, "auto", "park") || !is_on_demand() || settings_have_file())
        return 0;
    put(&settings->types, "\"platform\",\"function\"");
    for (char **variable = environ; *variable; variable++)
        if (strncasecmp(*variable, PREFIX, strlen(PREFIX)) == 0 &&
            (strncmp(*variable, PREFIX, strlen(PREFIX)) != 0 ||
             !understand(*variable, settings, numbers)))
            return 0;
    if (settings->port && (settings->port < FIRST_PORT || settings->port == RESERVED_PORT))
        return 0;
    return max_added_ms >= settings->timeout_ms; /* else no end of an invocation is awaited */
}
