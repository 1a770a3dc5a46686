/* The Extensions API as far as C needs it: register, and serve `next` when nothing else can. */
#ifndef TELEMETRYD_PLATFORM_H
#define TELEMETRYD_PLATFORM_H

#include "text.h"

#include <sys/socket.h>

#define REGISTER_FD "TELEMETRYD_REGISTER_FD" /* as telemetryd/extension/boot.py reads it */
#define PLATFORM_MAX_FAILURES 3 /* connections in a row that fail before the platform counts as gone */

/* Open what is closed of the descriptors 0 to 2: a socket of such a number would get what is meant
 * for standard output or error. Writing to what was closed fails as it did. */
void platform_open_standard(void);

/* Send `register` to AWS_LAMBDA_RUNTIME_API; the connected socket, its answer unread, or -1 if the
 * address is no numeric one or does not answer. `name` is the file name in extensions/. */
int platform_register(const char *api, const char *name);

/* Send `next`; the connected socket, its answer unread, or -1. */
int platform_send_next(const char *api, const char *identifier);

/* Say in one line of JSON on stderr that `what` failed because of `why`. */
void platform_say(const char *what, const char *why);

/* Say that the extension ends because of an answer, or because of none; the exit status. */
int platform_leave(const char *event, const struct text *answer);

/* Ask for `next` until SHUTDOWN, so that the function runs; the exit status. `socket` is what
 * platform_register gave, or -1 to register now. */
int platform_keep_polling(int socket, const char *api, const char *name);

/* The base name of `path`. */
const char *platform_base_name(const char *path);

/* Fill in the address of a numeric host, IPv4 or IPv6; its size, or 0 if it is a name. */
int platform_address(const char *host, long port, struct sockaddr_storage *address);

/* A connection to the API, or -1. */
int platform_connect(const char *api);

/* Send all of it; 0, or -1 if the connection is broken. */
int platform_send(int fd, const struct text *request);

/* The value of a header in `answer`, which ends at the blank line; NULL if it is not there. */
const char *platform_header(const char *answer, const char *name);

/* Whether the `size` bytes of `answer` are as many as it says there are of it, if it says so. */
int platform_is_whole(const char *answer, size_t size);

/* Read one answer and close the socket; its status, or -1 if the connection ended early. */
int platform_read_answer(int fd, struct text *answer);

#endif
