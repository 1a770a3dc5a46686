/* Buffers are fixed; what does not fit is cut off. */
#define _GNU_SOURCE
#include "platform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATH_REGISTER "/2020-01-01/extension/register"
#define PATH_NEXT "/2020-01-01/extension/event/next"

static void say(const char *event, const char *error, const char *consequence)
{
    struct text line = {0};
    put(&line, "{\"ts\":\"");
    put_time(&line);
    put(&line, "\",\"level\":\"error\",\"event\":\"");
    put(&line, event);
    put(&line, "\",\"logger\":\"telemetryd\",\"error\":\"");
    put_json(&line, error);
    put(&line, "\",\"consequence\":\"");
    put(&line, consequence);
    put(&line, "\"}\n");
    ssize_t written = write(2, line.bytes, line.length);
    (void)written; /* stderr is gone: no reader is left */
}

void platform_say(const char *what, const char *why)
{
    say(what, why, "no telemetry is delivered; the function is not affected");
}

const char *platform_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int platform_address(const char *host, long port, struct sockaddr_storage *address)
{
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    memset(address, 0, sizeof *address);
    if (strchr(host, ':')) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((unsigned short)port);
        return inet_pton(AF_INET6, host, &six->sin6_addr) == 1 ? (int)sizeof *six : 0;
    }
    four->sin_family = AF_INET;
    four->sin_port = htons((unsigned short)port);
    return inet_pton(AF_INET, host, &four->sin_addr) == 1 ? (int)sizeof *four : 0;
}

/* `127.0.0.1:9001` or `[::1]:9001`, numbers only: names are left to the interpreter. */
int platform_connect(const char *api)
{
    struct sockaddr_storage address;
    const char *colon = strrchr(api, ':');
    char host[64], *end;
    long port = colon ? strtol(colon + 1, &end, 10) : 0;
    if (!colon || *end || port < 1 || port > 65535 || (size_t)(colon - api) >= sizeof host)
        return -1;
    int bracketed = *api == '[' && colon > api + 1 && colon[-1] == ']';
    size_t length = (size_t)(colon - api) - (bracketed ? 2 : 0);
    memcpy(host, api + bracketed, length);
    host[length] = 0;
    int size = bracketed == !!strchr(host, ':') ? platform_address(host, port, &address) : 0;
    if (!size)
        return -1;
    int one = 1, fd = socket(address.ss_family, SOCK_STREAM, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, (socklen_t)size) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int platform_send(int fd, const struct text *request)
{
    size_t sent = 0;
    while (sent < request->length) {
        ssize_t count = send(fd, request->bytes + sent, request->length - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -1;
        sent += (size_t)count;
    }
    return 0;
}

static int send_register(const char *api, const char *name, int without_invoke)
{
    const char *body =
        without_invoke ? "{\"events\":[\"SHUTDOWN\"]}" : "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}";
    struct text request = {0};
    put(&request, "POST " PATH_REGISTER " HTTP/1.1\r\nHost: ");
    put(&request, api);
    put(&request, "\r\nLambda-Extension-Name: ");
    put(&request, name);
    put(&request, "\r\nLambda-Extension-Accept-Feature: accountId"
                  "\r\nContent-Type: application/json\r\nContent-Length: ");
    put_number(&request, strlen(body), 1);
    put(&request, "\r\n\r\n");
    put(&request, body);
    int fd = platform_connect(api);
    if (fd >= 0 && platform_send(fd, &request) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Managed Instances have no INVOKE for extensions. */
static int managed(void)
{
    const char *type = getenv("AWS_LAMBDA_INITIALIZATION_TYPE");
    return type && strcmp(type, "lambda-managed-instances") == 0;
}

void platform_open_standard(void)
{
    for (int number = 0; number <= STDERR_FILENO; number++) {
        int flags = number == STDERR_FILENO ? O_RDWR : O_RDONLY;
        if (fcntl(number, F_GETFD) < 0 && open("/dev/null", flags) < 0)
            (void)open("/", O_RDONLY); /* a root without /dev has a directory at least */
    }
}

int platform_register(const char *api, const char *name)
{
    return send_register(api, name, managed());
}

const char *platform_header(const char *answer, const char *name)
{
    const char *end = strstr(answer, "\r\n\r\n"), *at = answer;
    size_t length = strlen(name);
    while (end && (at = strstr(at, "\r\n")) && at < end) {
        at += 2;
        if (strncasecmp(at, name, length) == 0 && at[length] == ':')
            return at + length + 1 + strspn(at + length + 1, " \t");
    }
    return NULL;
}

int platform_is_whole(const char *answer, size_t size)
{
    const char *body = strstr(answer, "\r\n\r\n");
    const char *length = platform_header(answer, "content-length");
    return body && length && (size_t)(answer + size - body - 4) >= strtoul(length, NULL, 10);
}

int platform_read_answer(int fd, struct text *answer)
{
    int status = -1;
    answer->length = 0;
    answer->bytes[0] = 0;
    for (;;) {
        size_t room = sizeof answer->bytes - 1 - answer->length;
        ssize_t count = room ? read(fd, answer->bytes + answer->length, room) : 0;
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            break;
        answer->length += (size_t)count;
        answer->bytes[answer->length] = 0;
        if (platform_is_whole(answer->bytes, answer->length))
            break;
    }
    close(fd);
    if (strncmp(answer->bytes, "HTTP/1.", 7) == 0 && strstr(answer->bytes, "\r\n\r\n"))
        status = (int)strtol(answer->bytes + 8, NULL, 10);
    return status;
}

int platform_send_next(const char *api, const char *identifier)
{
    struct text request = {0};
    put(&request, "GET " PATH_NEXT " HTTP/1.1\r\nHost: ");
    put(&request, api);
    put(&request, "\r\nLambda-Extension-Identifier: ");
    put(&request, identifier);
    put(&request, "\r\n\r\n");
    int fd = platform_connect(api);
    if (fd >= 0 && platform_send(fd, &request) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int platform_leave(const char *event, const struct text *answer)
{
    say(event, answer->length ? answer->bytes : "no answer", "the extension ends");
    return 1;
}

int platform_keep_polling(int socket, const char *api, const char *name)
{
    static struct text answer;
    char identifier[128] = {0};
    int fd = socket >= 0 ? socket : platform_register(api, name);
    int status = fd >= 0 ? platform_read_answer(fd, &answer) : -1;
    if (status != 200 && strstr(answer.bytes, "InvalidEventType")) {
        fd = send_register(api, name, 1);
        status = fd >= 0 ? platform_read_answer(fd, &answer) : -1;
    }
    const char *value = platform_header(answer.bytes, "lambda-extension-identifier");
    if (status != 200 || !value)
        return platform_leave("register_failed", &answer);
    size_t length = strcspn(value, "\r\n");
    memcpy(identifier, value, length < sizeof identifier ? length : sizeof identifier - 1);
    for (int failures = 0; failures < PLATFORM_MAX_FAILURES;) {
        fd = platform_send_next(api, identifier);
        answer.length = 0;
        status = fd >= 0 ? platform_read_answer(fd, &answer) : -1;
        if (status == 200 && strstr(answer.bytes, "\"SHUTDOWN\""))
            return 0;
        if (status > 0 && status != 200)
            break; /* refused: this environment is over */
        failures = status == 200 ? 0 : failures + 1;
    }
    return platform_leave("platform_gone", &answer);
}
