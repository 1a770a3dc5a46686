/* Parked: what waits in the interpreter's place until there is something for it to do.
 *
 * The launcher has registered. Here it binds the telemetry port, subscribes, asks for `next`, and
 * reads none of what arrives: it looks at it where it waits, in the kernel. So whoever takes over
 * finds every byte, and every answer of the platform, as if it had been there from the start.
 *
 *     ASKED     `next` is on its way: before the first invocation, or after one that had no time left
 *     INVOKED   `next` was answered with INVOKE, which is left unread; the function's end is awaited
 *
 * What ends the wait, and what then:
 *
 *     the function's end, a bound of the wait that has passed (as in core/lifecycle.py),
 *     much that waits, a connection that ends, a signal, an answer that is not understood,
 *     INVOKE though the end of the one before was not seen
 *         PARK_START: hand over to the interpreter, which reads it all
 *     SHUTDOWN, and lines of a function wait
 *         PARK_START, if the interpreter can be up in time; else as below
 *     SHUTDOWN, and only what the platform says of the init waits, or nothing
 *         PARK_OVER: the lines are printed and counted, the extension has ended
 *     little is left until the function's deadline
 *         `next` is asked for again, so that the function does not time out; back to ASKED
 */
#ifndef TELEMETRYD_PARK_H
#define TELEMETRYD_PARK_H

#include "settings.h"

#include <stddef.h>

/* "LISTENER NEXT INVOCATIONS EARLY CONNECTION... IDENTIFIER", as telemetryd/extension/boot.py reads
 * it: descriptors, but for INVOCATIONS, how many INVOKE have been read and answered with another
 * `next`, and EARLY, how many of the connections were there when the subscription was answered.
 * NEXT is -1 if no `next` is on its way. */
#define PARKED "TELEMETRYD_PARKED"
#define REGISTERED "TELEMETRYD_REGISTERED" /* the body of the answer to `register`, unread */
#define PARK_CONNECTIONS 16

struct connection {
    int fd;
    size_t seen;          /* bytes that wait, when last looked at */
    long unfinished_at;   /* since when the last line lacks its end, in milliseconds; 0: it does not */
};

struct park {
    const char *api;
    char identifier[128];
    const char *registered; /* the body of the answer to `register` */
    int listener, next, signals;
    int early, count;
    struct connection connections[PARK_CONNECTIONS];
    long batch_ms, silence_ms;
    /* of the wait; times are in milliseconds of a clock that only runs forward */
    int invoked, invocations; /* the one that runs; those that were not waited for */
    int started;              /* `platform.start` of the running one was seen */
    int init_is_over, settled; /* so is its report; and what has come since was looked at */
    long invoked_at, heard_at, deadline;
    size_t next_seen; /* bytes of an answer to `next` that is not complete */
    /* of the end */
    long long received_lines, received_bytes, printed_lines, printed_bytes;
};

enum outcome { PARK_START, PARK_OVER };

/* Bind, subscribe, ask for `next`. `fd` has sent `register`. Whether all went well; if not, nothing
 * has been read from `fd`, and all else is closed: the interpreter can do it all again. */
int park_begin(struct park *park, const struct settings *settings, int fd);

/* Wait; `signals` are held back by the process. */
enum outcome park_wait(struct park *park, const int *signals, size_t count);

/* Put what there is into the environment, for the interpreter. */
void park_hand_over(const struct park *park);

/* Take it back from there, where the interpreter could not start; whether there is anything. */
int park_take_back(struct park *park, const char *api);

/* Serve `next` until SHUTDOWN, and read, count and discard what arrives; the exit status. */
int park_serve(struct park *park);

#endif
