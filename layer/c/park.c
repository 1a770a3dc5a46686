/* The wait itself; park.h says what it is for. */
#define _GNU_SOURCE
#include "park.h"
#include "platform.h"
#include "share.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PATH_TELEMETRY "/2022-07-01/telemetry"
#define API_SECONDS 5
#ifndef RECEIVE_BUFFER /* tests have less */
#define RECEIVE_BUFFER (1024 * 1024)
#endif
#define START_BYTES (200 * 1024) /* so much waits: the kernel has room for little more */
#define LOOKED_BYTES (256 * 1024)
#define MARK_BYTES 32 /* no mark is longer */
#define HEAD_BYTES 256 /* of a line: so near its beginning is its type */
/* core/lifecycle.py: START_LATE_SECONDS and twice MOST_LAG_SECONDS, UNFINISHED_SECONDS,
 * LONGEST_SECONDS; of extension/run.py what is left without a deadline */
#define START_LATE_MS 800
#define UNFINISHED_MS 1000
#define LONGEST_MS (900 * 1000L)
#define SHUTDOWN_MS 2000
#define QUIET_MARGIN_MS 25
#define READ_SHARE 0.7
#define LATE_READS 16 /* of LOOKED_BYTES: more than the kernel holds */
/* What the interpreter needs until it can ask for `next`: CPU of a whole processor, and the same
 * again as leeway. A function has the processor's share that its memory buys. */
#define UP_CPU_MS 110
#define UP_MS 250
#define WHOLE_CPU_MB 1769
#define LEAST_MB 128
#define INIT_SETTLED_MS 1000 /* after the init, without an invocation: none is going to come soon */

static char looked_at[LOOKED_BYTES + 1];

static long now_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static long clock_ms(void)
{
    return now_ms(CLOCK_MONOTONIC);
}

static void set(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof value);
}

/* Have `fd` be readable when more than `seen` bytes wait. */
static void await_more(int fd, size_t seen)
{
    set(fd, SOL_SOCKET, SO_RCVLOWAT, (int)seen + 1);
}

/* -- register, listen, subscribe, next ------------------------------------------------------------ */

/* Whether an answer is there to its end, as far as it names one. */
static int is_complete(const char *answer, size_t size)
{
    return strstr(answer, "\r\n\r\n") && (!platform_header(answer, "content-length") ||
                                          platform_is_whole(answer, size));
}

/* Wait for an answer and leave it unread; whether there is one. */
static int peek_answer(int fd, struct text *answer)
{
    struct pollfd waited = {fd, POLLIN, 0};
    long until = clock_ms() + API_SECONDS * 1000, left;
    answer->length = 0;
    answer->bytes[0] = 0;
    while ((left = until - clock_ms()) > 0 && !is_complete(answer->bytes, answer->length)) {
        if (poll(&waited, 1, (int)left) < 0)
            continue; /* interrupted */
        ssize_t count = recv(fd, answer->bytes, sizeof answer->bytes - 1, MSG_PEEK | MSG_DONTWAIT);
        if (count <= (ssize_t)answer->length)
            break; /* the time is up, the connection has ended, or more does not fit */
        answer->length = (size_t)count;
        answer->bytes[count] = 0;
        await_more(fd, answer->length);
    }
    await_more(fd, 0);
    return is_complete(answer->bytes, answer->length);
}

/* Whether `register` was granted. The answer is left unread. */
static int is_registered(struct park *park, int fd)
{
    static struct text answer;
    if (!peek_answer(fd, &answer) || strncmp(answer.bytes, "HTTP/1.1 200", 12) != 0)
        return 0;
    const char *value = platform_header(answer.bytes, "lambda-extension-identifier");
    size_t length = value ? strcspn(value, " \t\r\n") : 0;
    if (length == 0 || length >= sizeof park->identifier ||
        platform_header(answer.bytes, "transfer-encoding"))
        return 0; /* a body in chunks is the interpreter's matter */
    memcpy(park->identifier, value, length);
    park->identifier[length] = 0;
    park->registered = strstr(answer.bytes, "\r\n\r\n") + 4;
    return 1;
}

static int bound(const char *host, long port)
{
    struct sockaddr_storage address;
    int size = platform_address(host, port, &address);
    int fd = size ? socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0) : -1;
    if (fd < 0)
        return -1;
    if (strcmp(host, "::") == 0)
        set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER);
    if (bind(fd, (struct sockaddr *)&address, (socklen_t)size) == 0 &&
        listen(fd, PARK_CONNECTIONS) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The listener, as extension/boot.py makes it. A port that can't be had is left to that. */
static int listening(const struct settings *settings)
{
    int fd = bound(settings->host, settings->port);
    if (fd < 0 && strcmp(settings->host, "::") == 0)
        fd = bound("0.0.0.0", settings->port); /* no IPv6 here */
    return fd;
}

static int is_subscribed(struct park *park, const struct settings *settings)
{
    static struct text request, body, answer;
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(park->listener, (struct sockaddr *)&address, &size) != 0)
        return 0;
    /* the port is at the same place in both families */
    unsigned port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    body.length = request.length = 0;
    put(&body, "{\"schemaVersion\":\"2025-01-29\",\"types\":[");
    put(&body, settings->types.bytes);
    put(&body, "],\"buffering\":{\"maxItems\":");
    put_number(&body, (unsigned long)settings->max_items, 1);
    put(&body, ",\"maxBytes\":");
    put_number(&body, (unsigned long)settings->max_bytes, 1);
    put(&body, ",\"timeoutMs\":");
    put_number(&body, (unsigned long)settings->timeout_ms, 1);
    put(&body, "},\"destination\":{\"protocol\":\"TCP\",\"port\":");
    put_number(&body, port, 1);
    put(&body, "}}");
    put(&request, "PUT " PATH_TELEMETRY " HTTP/1.1\r\nHost: ");
    put(&request, park->api);
    put(&request, "\r\nLambda-Extension-Identifier: ");
    put(&request, park->identifier);
    put(&request, "\r\nContent-Type: application/json\r\nContent-Length: ");
    put_number(&request, body.length, 1);
    put(&request, "\r\n\r\n");
    put(&request, body.bytes);
    struct timeval most = {API_SECONDS, 0};
    int fd = platform_connect(park->api);
    if (fd < 0)
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    if (platform_send(fd, &request) != 0) {
        close(fd);
        return 0;
    }
    return platform_read_answer(fd, &answer) == 200;
}

/* Accept who has connected, as far as there is room. */
static void take_in(struct park *park)
{
    while (park->count < PARK_CONNECTIONS) {
        int fd = accept4(park->listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0)
            return; /* no other connection, most often */
        park->connections[park->count++] = (struct connection){.fd = fd};
    }
}

int park_begin(struct park *park, const struct settings *settings, int fd)
{
    park->batch_ms = settings->timeout_ms;
    park->silence_ms = settings->max_silence_ms;
    if (!is_registered(park, fd))
        return 0;
    park->listener = listening(settings);
    if (park->listener < 0)
        return 0;
    if (!is_subscribed(park, settings)) {
        close(park->listener);
        return 0;
    }
    close(fd);
    take_in(park);
    park->early = park->count;
    park->next = platform_send_next(park->api, park->identifier);
    return 1;
}

/* -- looking at what waits ------------------------------------------------------------------------ */

static size_t waiting(const struct park *park)
{
    size_t total = 0;
    for (int i = 0; i < park->count; i++)
        total += park->connections[i].seen;
    return total;
}

static int holds(const char *bytes, size_t size, const char *mark)
{
    return memmem(bytes, size, mark, strlen(mark)) != NULL;
}

/* Look at what has arrived; whether the interpreter has to. A function's text can't hold a mark:
 * JSON escapes its quotes. */
static int has_news(struct park *park, struct connection *connection)
{
    ssize_t count = recv(connection->fd, looked_at, LOOKED_BYTES, MSG_PEEK | MSG_DONTWAIT);
    if (count <= (ssize_t)connection->seen)
        return 1; /* readable, but no more: it has ended, or the kernel takes no more */
    size_t from = connection->seen > MARK_BYTES ? connection->seen - MARK_BYTES : 0;
    const char *fresh = looked_at + from;
    size_t size = (size_t)count - from;
    park->heard_at = clock_ms();
    park->settled = 0;
    connection->seen = (size_t)count;
    connection->unfinished_at = looked_at[count - 1] == '\n' ? 0 : park->heard_at;
    park->started = park->started || holds(fresh, size, "\"platform.start\"");
    park->init_is_over = park->init_is_over || holds(fresh, size, "\"platform.initReport\"");
    await_more(connection->fd, connection->seen);
    return holds(fresh, size, "\"platform.runtimeDone\"") ||
           holds(fresh, size, "\"platform.logsDropped\"") || waiting(park) >= START_BYTES;
}

/* Whether a line is what the platform says of the init, for any environment alike. */
static int is_of_init(const char *line, size_t size)
{
    static const char *const kinds[] = {"platform.init", "platform.telemetrySubscription\"",
                                        "platform.extension\""};
    static const char before[] = "\"type\":\"";
    size = size < HEAD_BYTES ? size : HEAD_BYTES;
    const char *at = memmem(line, size, before, sizeof before - 1);
    if (!at)
        return 0;
    at += sizeof before - 1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if ((size_t)(line + size - at) > strlen(kinds[i]) &&
            strncmp(at, kinds[i], strlen(kinds[i])) == 0)
            return 1;
    return 0;
}

/* Whether nothing waits but whole lines of that kind. */
static int only_of_init(const struct park *park)
{
    for (int i = 0; i < park->count; i++) {
        int fd = park->connections[i].fd;
        ssize_t count = recv(fd, looked_at, LOOKED_BYTES, MSG_PEEK | MSG_DONTWAIT);
        if (count == LOOKED_BYTES)
            return 0;
        for (const char *at = looked_at, *end = at + (count > 0 ? count : 0); at < end;) {
            const char *newline = memchr(at, '\n', (size_t)(end - at));
            if (!newline || !is_of_init(at, (size_t)(newline - at)))
                return 0;
            at = newline + 1;
        }
    }
    return 1;
}

/* -- the bounds of the wait ----------------------------------------------------------------------- */

static long earlier(long one, long other)
{
    return one < other ? one : other;
}

static long later(long one, long other)
{
    return one > other ? one : other;
}

/* How long before a deadline the interpreter has to start, to be up by then. */
static long reserve_ms(void)
{
    long mb = later(share_memory_mb(), LEAST_MB);
    return UP_MS + UP_CPU_MS * WHOLE_CPU_MB / earlier(mb, WHOLE_CPU_MB);
}

/* When `next` has to be asked for at the latest. */
static long ask_by(const struct park *park)
{
    return park->deadline - reserve_ms();
}

/* When the interpreter has to start at the latest, though nothing was noticed. */
static long start_by(const struct park *park)
{
    long by = park->invoked_at + LONGEST_MS;
    for (int i = 0; i < park->count; i++)
        if (park->connections[i].unfinished_at)
            by = earlier(by, later(park->connections[i].unfinished_at, park->invoked_at) +
                                 UNFINISHED_MS);
    int heard = park->started || park->heard_at > park->invoked_at;
    if (!park->count || !heard)
        return earlier(by, park->invoked_at + park->batch_ms + START_LATE_MS);
    return earlier(by, later(park->heard_at, park->invoked_at) + park->silence_ms);
}

/* When to look again by the clock, -1 for never. */
static long due(const struct park *park)
{
    if (park->invoked)
        return earlier(start_by(park), ask_by(park));
    if (park->init_is_over && !park->settled && !park->invocations)
        return park->heard_at + INIT_SETTLED_MS;
    return -1;
}

/* -- answers to `next` ---------------------------------------------------------------------------- */

/* Milliseconds until `deadlineMs` of the answer in `text`; `most` without a plausible one. */
static long left_ms(const char *text, long most)
{
    static const char name[] = "\"deadlineMs\"";
    const char *at = strstr(text, name);
    at = at ? at + sizeof name - 1 : "";
    long long deadline = strtoll(at + strspn(at, ": \""), NULL, 10);
    long long left = deadline - now_ms(CLOCK_REALTIME);
    return left > LONGEST_MS || left < -LONGEST_MS ? most : (long)left;
}

enum answer { ANSWER_INVOKE, ANSWER_SHUTDOWN, ANSWER_PART, ANSWER_OTHER };

/* What `next` was answered with, and how much time that leaves. It is left unread. */
static enum answer answer_to_next(struct park *park, long *left)
{
    ssize_t count = recv(park->next, looked_at, LOOKED_BYTES, MSG_PEEK | MSG_DONTWAIT);
    if (count <= (ssize_t)park->next_seen)
        return ANSWER_OTHER; /* the connection has ended */
    looked_at[count] = 0;
    park->next_seen = (size_t)count;
    if (!is_complete(looked_at, (size_t)count)) {
        await_more(park->next, park->next_seen);
        return ANSWER_PART;
    }
    if (strncmp(looked_at, "HTTP/1.1 200", 12) != 0)
        return ANSWER_OTHER;
    if (strstr(looked_at, "\"INVOKE\"")) {
        *left = left_ms(looked_at, LONGEST_MS);
        return ANSWER_INVOKE;
    }
    *left = left_ms(looked_at, SHUTDOWN_MS);
    return strstr(looked_at, "\"SHUTDOWN\"") ? ANSWER_SHUTDOWN : ANSWER_OTHER;
}

/* The invocation can't wait any longer: ask for the next one. On a new connection, since where the
 * answer on this one ends is not looked into. */
static void ask_again(struct park *park)
{
    close(park->next);
    park->next = platform_send_next(park->api, park->identifier);
    park->next_seen = 0;
    park->invocations++;
    park->invoked = park->started = 0;
}

/* The interpreter is to start. Where the platform waits for a `next`, it must not wait too long. */
static enum outcome to_start(struct park *park)
{
    if (park->invoked && clock_ms() > ask_by(park))
        ask_again(park);
    return PARK_START;
}

/* -- the end -------------------------------------------------------------------------------------- */

static void write_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t count = write(fd, bytes, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return; /* no reader is left */
        bytes += count;
        size -= (size_t)count;
    }
}

static void put_leaf(struct text *line, const char *name, long long lines, long long bytes)
{
    put(line, ",\"");
    put(line, name);
    put(line, "\":{\"lines\":");
    put_number(line, (unsigned long)lines, 1);
    put(line, ",\"bytes\":");
    put_number(line, (unsigned long)bytes, 1);
    put(line, "}");
}

/* The record that stands for the ledger: in its form, with what no sink was there for. */
static void print_ledger(const struct park *park, const char *why)
{
    struct text line = {0};
    put(&line, "{\"event\":\"ledger\"");
    put_leaf(&line, "received", park->received_lines, park->received_bytes);
    put_leaf(&line, "framed", park->received_lines, park->received_bytes);
    put_leaf(&line, "printed", park->printed_lines, park->printed_bytes);
    put_leaf(&line, "unrouted", park->received_lines - park->printed_lines,
             park->received_bytes - park->printed_bytes);
    put(&line, ",\"rejected\":{},\"sinks\":{},\"balanced\":true,\"");
    put(&line, why);
    put(&line, "\":true,\"ts\":\"");
    put_time(&line);
    put(&line, "\",\"logger\":\"telemetryd\"}\n");
    write_all(STDERR_FILENO, line.bytes, line.length);
}

/* Read what waits at a connection and count it, printed or not; 0 if the connection has ended. */
static int read_lines(struct park *park, struct connection *connection, int printed)
{
    ssize_t count = recv(connection->fd, looked_at, LOOKED_BYTES, MSG_DONTWAIT);
    long long lines = 0;
    if (count <= 0)
        return count < 0 && (errno == EINTR || errno == EAGAIN);
    for (const char *at = looked_at, *end = at + count; (at = memchr(at, '\n', (size_t)(end - at)));)
        lines++, at++;
    connection->unfinished_at = looked_at[count - 1] != '\n';
    park->received_lines += lines;
    park->received_bytes += count;
    if (printed) {
        write_all(STDOUT_FILENO, looked_at, (size_t)count);
        park->printed_lines += lines;
        park->printed_bytes += count;
    }
    return 1;
}

/* Forget a connection that has ended, or is to be read no more. What lacks its end is a line, too. */
static void drop(struct park *park, int number, int printed)
{
    if (park->connections[number].unfinished_at) {
        park->received_lines++;
        if (printed) {
            write_all(STDOUT_FILENO, "\n", 1);
            park->printed_lines++;
        }
    }
    close(park->connections[number].fd);
    park->connections[number] = park->connections[--park->count];
}

static int poll_connections(struct park *park, struct pollfd *polled)
{
    for (int i = 0; i < park->count; i++)
        polled[i] = (struct pollfd){park->connections[i].fd, POLLIN | POLLRDHUP, 0};
    return park->count;
}

/* Read from those of `known` connections that are ready. */
static void read_ready(struct park *park, const struct pollfd *polled, int known, int printed)
{
    for (int i = known - 1; i >= 0; i--) /* backwards: who is dropped gets the last one's place */
        if (polled[i].revents && !read_lines(park, &park->connections[i], printed))
            drop(park, i, printed);
}

/* Read until nothing has arrived for a batch period, or most of the time is used up. What is there
 * already is read even then. */
static void read_until_quiet(struct park *park, long left, int printed)
{
    struct pollfd polled[PARK_CONNECTIONS];
    long until = clock_ms() + (long)((double)left * READ_SHARE), rest;
    for (int i = 0; i < park->count; i++)
        await_more(park->connections[i].fd, 0);
    for (int late = 0; park->count && late < LATE_READS; late += rest == 0) {
        int known = poll_connections(park, polled);
        rest = later(until - clock_ms(), 0);
        if (poll(polled, (nfds_t)known, (int)earlier(rest, park->batch_ms + QUIET_MARGIN_MS)) <= 0)
            break;
        read_ready(park, polled, known, printed);
    }
    while (park->count)
        drop(park, park->count - 1, printed);
}

/* Wait for what comes late, as long as it is of the init. */
static void await_quiet(struct park *park, long left)
{
    struct pollfd polled[PARK_CONNECTIONS];
    long until = clock_ms() + (long)((double)left * READ_SHARE), rest;
    while (only_of_init(park) && (rest = until - clock_ms()) > 0) {
        int known = poll_connections(park, polled);
        if (poll(polled, (nfds_t)known, (int)earlier(rest, park->batch_ms + QUIET_MARGIN_MS)) <= 0)
            return;
        for (int i = 0; i < known; i++)
            if (polled[i].revents && has_news(park, &park->connections[i]))
                return; /* the end of a connection among them */
    }
}

/* SHUTDOWN. A function's lines are worth a start if there is time for one; what the platform says of
 * an init, or what there is no time for, goes to the platform's own log. */
static enum outcome on_shutdown(struct park *park, long left)
{
    long until = clock_ms() + left;
    await_quiet(park, left);
    if (!only_of_init(park) && until - clock_ms() >= reserve_ms())
        return PARK_START;
    read_until_quiet(park, until - clock_ms(), 1);
    print_ledger(park, "parked");
    return PARK_OVER;
}

/* -- the wait ------------------------------------------------------------------------------------- */

enum { SIGNALS, NEXT, LISTENER, FIXED };

/* What the passed time means; whether the interpreter is to start. */
static int on_time(struct park *park)
{
    if (!park->invoked) {
        park->settled = 1;
        return !only_of_init(park);
    }
    if (clock_ms() >= start_by(park))
        return 1;
    ask_again(park);
    return park->next < 0;
}

/* Poll everything that may happen; how much did. */
static int poll_all(struct park *park, struct pollfd *polled)
{
    long at = due(park), left = at - clock_ms();
    int room = park->count < PARK_CONNECTIONS;
    polled[SIGNALS] = (struct pollfd){park->signals, POLLIN, 0};
    polled[NEXT] = (struct pollfd){park->invoked ? -1 : park->next, POLLIN, 0};
    polled[LISTENER] = (struct pollfd){room ? park->listener : -1, POLLIN, 0};
    int count = FIXED + poll_connections(park, polled + FIXED);
    return poll(polled, (nfds_t)count, at < 0 ? -1 : left < 0 ? 0 : (int)left);
}

/* `next` was answered: whether that ends the wait, and with what. */
static int on_answer(struct park *park, enum outcome *outcome)
{
    long left;
    switch (answer_to_next(park, &left)) {
    case ANSWER_INVOKE:
        park->invoked = 1;
        park->invoked_at = clock_ms();
        park->deadline = park->invoked_at + left;
        if (!park->invocations)
            return 0;
        *outcome = to_start(park); /* no end of the one before was seen, perhaps none ever is */
        return 1;
    case ANSWER_PART:
        return 0;
    case ANSWER_SHUTDOWN:
        *outcome = on_shutdown(park, left);
        return 1;
    default:
        *outcome = PARK_START;
        return 1;
    }
}

enum outcome park_wait(struct park *park, const int *signals, size_t count)
{
    struct pollfd polled[FIXED + PARK_CONNECTIONS];
    enum outcome outcome;
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < count; i++)
        sigaddset(&held, signals[i]);
    park->signals = signalfd(-1, &held, SFD_CLOEXEC); /* never read: the signal is handed over too */
    while (park->next >= 0) {
        int ready = poll_all(park, polled), known = park->count, start = 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready < 0 || polled[SIGNALS].revents)
            break;
        if (polled[NEXT].revents && on_answer(park, &outcome))
            return outcome;
        if (polled[LISTENER].revents)
            take_in(park);
        for (int i = 0; i < known; i++)
            if (polled[FIXED + i].revents)
                start |= has_news(park, &park->connections[i]) ||
                         polled[FIXED + i].revents & (POLLRDHUP | POLLHUP | POLLERR);
        if (start || (!ready && on_time(park)))
            break;
    }
    return to_start(park);
}

/* -- handing over --------------------------------------------------------------------------------- */

static void put_field(struct text *text, long number)
{
    put(text, number < 0 ? "-" : "");
    put_number(text, (unsigned long)labs(number), 1);
    put(text, " ");
}

void park_hand_over(const struct park *park)
{
    static struct text variable, registered;
    variable.length = registered.length = 0;
    put(&registered, REGISTERED "=");
    put(&registered, park->registered);
    putenv(registered.bytes);
    put(&variable, PARKED "=");
    put_field(&variable, park->listener);
    put_field(&variable, park->next);
    put_field(&variable, park->invocations);
    put_field(&variable, park->early);
    if (park->next >= 0)
        await_more(park->next, 0);
    for (int i = 0; i < park->count; i++) {
        await_more(park->connections[i].fd, 0);
        put_field(&variable, park->connections[i].fd);
    }
    put(&variable, park->identifier);
    putenv(variable.bytes);
}

int park_take_back(struct park *park, const char *api)
{
    const char *at = getenv(PARKED), *identifier = at ? strrchr(at, ' ') : NULL;
    int *const fixed[] = {&park->listener, &park->next, &park->invocations, &park->early};
    char *end = (char *)at;
    if (!identifier || strlen(identifier + 1) >= sizeof park->identifier)
        return 0;
    *park = (struct park){.api = api, .batch_ms = 25};
    strcpy(park->identifier, identifier + 1);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        *fixed[i] = (int)strtol(end, &end, 10);
    while (end < identifier && park->count < PARK_CONNECTIONS)
        park->connections[park->count++].fd = (int)strtol(end, &end, 10);
    return 1;
}

/* -- without an interpreter ----------------------------------------------------------------------- */

/* Read the answer to `next`, ask again. 0: go on; 1: SHUTDOWN, in `left`; -1: the platform is gone. */
static int serve_next(struct park *park, struct text *answer, int *failures, long *left)
{
    struct timeval most = {API_SECONDS, 0};
    answer->length = 0;
    setsockopt(park->next, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    int status = park->next >= 0 ? platform_read_answer(park->next, answer) : -1;
    if (status == 200 && strstr(answer->bytes, "\"SHUTDOWN\"")) {
        *left = left_ms(answer->bytes, SHUTDOWN_MS);
        return 1;
    }
    *failures = status == 200 ? 0 : *failures + 1;
    if ((status > 0 && status != 200) || *failures == PLATFORM_MAX_FAILURES)
        return -1;
    park->next = platform_send_next(park->api, park->identifier);
    return 0;
}

int park_serve(struct park *park)
{
    static struct text answer;
    struct pollfd polled[FIXED + PARK_CONNECTIONS];
    int failures = 0, over = 0;
    long left = 0;
    park->signals = -1;
    park->invoked = park->init_is_over = 0; /* nothing is awaited any more */
    while (!over) {
        int known = park->count;
        if (park->next >= 0 && poll_all(park, polled) < 0)
            continue; /* interrupted */
        if (park->next < 0 || polled[NEXT].revents) {
            over = serve_next(park, &answer, &failures, &left);
            continue;
        }
        read_ready(park, polled + FIXED, known, 0);
        if (polled[LISTENER].revents)
            take_in(park);
    }
    read_until_quiet(park, over > 0 ? left : SHUTDOWN_MS, 0);
    print_ledger(park, "degraded");
    return over > 0 ? 0 : platform_leave("platform_gone", &answer);
}
