/* The Extensions API as far as C needs it: register, and serve `next` when nothing else can. */
#ifndef TELEMETRYD_PLATFORM_H
#define TELEMETRYD_PLATFORM_H

#define REGISTER_FD "TELEMETRYD_REGISTER_FD" /* as telemetryd/extension/boot.py reads it */

/* Open what is closed of the descriptors 0 to 2: a socket of such a number would get what is meant
 * for standard output or error. Writing to what was closed fails as it did. */
void platform_open_standard(void);

/* Send `register` to AWS_LAMBDA_RUNTIME_API; the connected socket, its answer unread, or -1 if the
 * address is no numeric one or does not answer. `name` is the file name in extensions/. */
int platform_register(const char *api, const char *name);

/* Say in one line of JSON on stderr that `what` failed because of `why`. */
void platform_say(const char *what, const char *why);

/* Ask for `next` until SHUTDOWN, so that the function runs; the exit status. `socket` is what
 * platform_register gave, or -1 to register now. */
int platform_keep_polling(int socket, const char *api, const char *name);

/* The base name of `path`. */
const char *platform_base_name(const char *path);

#endif
