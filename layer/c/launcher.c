/* extensions/telemetryd: sends `register`, then becomes the interpreter beside it.
 *
 * The platform starts the function's runtime only after every extension has registered, and an
 * interpreter takes its time. So this, static and a few kilobytes large, registers first and hands
 * the connected socket over by execve: the process stays the same. What the interpreter needs until
 * `next` it has the kernel fetch from the disk at the same time. Where it is asked to, it does all
 * that the init needs, and waits in the interpreter's place (park.h). If there is no such execve (no
 * glibc, a missing file), it asks for `next` itself until SHUTDOWN, so that the function runs.
 */
#define _GNU_SOURCE
#include "early.h"
#include "park.h"
#include "platform.h"
#include "prepared.h"
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define INTERPRETER "/../telemetryd/telemetryd" /* as seen from the directory of this file */
#define EVENTS_VARIABLE "TELEMETRYD_LAMBDA__EVENTS="
#define CONFIG_VARIABLE "TELEMETRYD_CONFIG="
#define OLDEST_GLIBC "GLIBC_2.26"
#define SCANNED_BYTES (1024 * 1024)
#define READ_BYTES (128 * 1024) /* of more at once, Linux may leave out the end */

extern char **environ;

/* Whether `text` is in `bytes`: looks at every tenth byte or so, where this C library's memmem takes
 * a quarter of a millisecond to find glibc's version. */
static int holds(const unsigned char *bytes, size_t size, const char *text)
{
    size_t length = strlen(text), last = length - 1, skip[256];
    for (size_t i = 0; i < 256; i++)
        skip[i] = length;
    for (size_t i = 0; i < last; i++)
        skip[(unsigned char)text[i]] = last - i;
    for (size_t at = 0; at + length <= size; at += skip[bytes[at + last]])
        if (bytes[at + last] == (unsigned char)text[last] && memcmp(bytes + at, text, length) == 0)
            return 1;
    return 0;
}

/* Whether the first bytes of the file at `path` hold `text`; -1 if it can't be read. */
static int mentions(const char *path, const char *text)
{
    struct stat state;
    int found = -1, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstat(fd, &state) == 0 && S_ISREG(state.st_mode)) {
        size_t size = state.st_size < SCANNED_BYTES ? (size_t)state.st_size : SCANNED_BYTES;
        void *bytes = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
        found = 0;
        if (bytes != MAP_FAILED) {
            found = holds(bytes, size, text);
            munmap(bytes, size);
        }
    }
    close(fd);
    return found;
}

/* Whether `lambda.events` may be configured: then only the interpreter knows what to register. */
static int events_are_configured(void)
{
    const char *named = getenv("TELEMETRYD_CONFIG");
    for (char **variable = environ; *variable; variable++) {
        if (strncasecmp(*variable, EVENTS_VARIABLE, strlen(EVENTS_VARIABLE)) == 0)
            return 1;
        if (strncasecmp(*variable, CONFIG_VARIABLE, strlen(CONFIG_VARIABLE)) == 0 &&
            !(named && *named))
            named = *variable + strlen(CONFIG_VARIABLE); /* in any case */
    }
    if (named && *named)
        return mentions(named, "events") == 1;
    return mentions("/var/task/telemetryd.toml", "events") == 1 ||
           mentions("/opt/telemetryd.toml", "events") == 1;
}

/* What is wrong with this system's C library, or NULL. A loader that finds it too old would end the
 * process, after which no process is left to ask for `next`. */
static const char *libc_fault(void)
{
    static const char *const loaders[] = {LOADERS};
    static const char *const libraries[] = {LIBRARIES};
    for (size_t i = 0; i < sizeof loaders / sizeof *loaders; i++) {
        if (access(loaders[i], X_OK) != 0)
            return "no glibc here (a musl system?); telemetryd needs glibc 2.26 or newer";
    }
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        int found = mentions(libraries[i], OLDEST_GLIBC);
        if (found == 1)
            return NULL;
        if (found == 0)
            return "the C library here is older than glibc 2.26, which telemetryd needs";
    }
    return NULL; /* it lies somewhere unusual; the loader will know */
}

/* Drop what would make the loader or the C library do the function's will instead of ours. */
static void clean_environment(void)
{
    static const char *const dropped[] = {"LD_", "GLIBC_TUNABLES=", "MALLOC_"};
    char **to = environ;
    for (char **from = environ; *from; from++) {
        int keep = 1;
        for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
            keep = keep && strncmp(*from, dropped[i], strlen(dropped[i])) != 0;
        if (keep)
            *to++ = *from;
    }
    *to = NULL;
}

/* The path of the interpreter: beside the directory that this very file is in. */
static void find_interpreter(char *path, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", path, size - sizeof INTERPRETER);
    char *slash;
    if (length <= 0) {
        strcpy(path, "/opt/extensions");
    } else {
        path[length] = 0;
        if ((slash = strrchr(path, '/')))
            *slash = 0;
    }
    strcat(path, INTERPRETER);
}

/* Start to fetch what the interpreter reads until `next`, in a few large reads that it does not wait for.
 * By itself it would ask for it page by page as it comes across it, and wait each time. */
static void read_early(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    for (size_t i = 0; i < sizeof early_reads / sizeof *early_reads; i++) {
        unsigned at = early_reads[i].offset, end = at + early_reads[i].length;
        for (; at < end; at += READ_BYTES)
            readahead(fd, at, end - at < READ_BYTES ? end - at : READ_BYTES);
    } /* whatever came of it: what is not fetched now is read as it always is */
    close(fd);
}

static const int ending_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM};

/* Hold back what asks for the end, or let it through. The interpreter inherits what is held back, and
 * acts on it as soon as it can: who has registered should leave with a ledger. */
static void hold_signals(int how)
{
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < sizeof ending_signals / sizeof *ending_signals; i++)
        sigaddset(&held, ending_signals[i]);
    sigprocmask(how, &held, NULL);
}

static void hand_over(int fd)
{
    static struct text variable;
    put(&variable, REGISTER_FD "=");
    put_number(&variable, (unsigned long)fd, 1);
    putenv(variable.bytes);
}

int main(int argc, char **argv)
{
    static char interpreter[PATH_MAX];
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    const char *name = platform_base_name(argv[0]), *fault;
    static struct settings settings;
    static struct park park;
    int as_extension = argc == 1 && api, fd = -1, may_park, parked = 0;
    if (as_extension)
        hold_signals(SIG_BLOCK);
    platform_open_standard();
    find_interpreter(interpreter, sizeof interpreter);
    prepared_apply(interpreter);
    unsetenv(REGISTER_FD);
    unsetenv(PARKED);
    unsetenv(LARGE_SHARE);
    unsetenv(REGISTERED);
    if (as_extension && !events_are_configured()) {
        fd = platform_register(api, name);
        if (fd >= 0)
            hand_over(fd);
    }
    fault = libc_fault();
    park.api = api;
    may_park = fd >= 0 && !fault && settings_to_park(&settings);
    if (may_park && !settings.measured)
        parked = park_begin(&park, &settings, fd);
    if (as_extension)
        read_early(interpreter);
    if (may_park && settings.measured) {
        enum share share = share_measure(fd);
        if (share == SHARE_SMALL)
            parked = park_begin(&park, &settings, fd);
        else if (share == SHARE_LARGE)
            putenv(LARGE_SHARE "=1");
    }
    if (parked) {
        if (park_wait(&park, ending_signals, sizeof ending_signals / sizeof *ending_signals) ==
            PARK_OVER)
            return 0;
        unsetenv(REGISTER_FD);
        park_hand_over(&park);
    }
    clean_environment();
    if (!fault) {
        execv(interpreter, argv);
        fault = strerror(errno);
    }
    platform_say("interpreter_not_started", fault);
    if (as_extension)
        hold_signals(SIG_UNBLOCK);
    if (parked)
        return park_serve(&park);
    return as_extension ? platform_keep_polling(fd, api, name) : 126;
}
