/* Copies bytes from TCP connections to a file, and does nothing else.
 *
 *     copier PORT FILE
 *
 * What every program that brings bytes from a socket to a file must do: a read into a buffer and a
 * write from it. Ends on SIGTERM, after what the kernel has received is written.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 256 * 1024, RECEIVE_BUFFER_BYTES = 1024 * 1024, EVENTS = 64, BACKLOG = 128 };

static void fail(const char *what) {
    fprintf(stderr, "copier: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void write_all(int file, const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(file, data, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail("write");
        data += written;
        size -= (size_t)written;
    }
}

/* One read and its write. Returns what recv returned: 0 at the end, -1 when nothing is there. */
static ssize_t copy(int from, int file, char *buffer) {
    ssize_t size = recv(from, buffer, BUFFER_BYTES, 0);
    if (size > 0) write_all(file, buffer, (size_t)size);
    return size;
}

static void watch(int epoll, int descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0) fail("epoll_ctl");
}

static int listening(int port) {
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 0) fail("socket");
    int on = 1, size = RECEIVE_BUFFER_BYTES;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(server, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(server, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(server, BACKLOG) < 0) fail("listen");
    return server;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: copier PORT FILE\n");
        return 2;
    }
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    int signals = signalfd(-1, &ending, SFD_CLOEXEC);
    int file = open(arguments[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) fail(arguments[2]);
    char *buffer = malloc(BUFFER_BYTES);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (signals < 0 || epoll < 0 || buffer == NULL) fail("start");
    int server = listening(atoi(arguments[1]));
    watch(epoll, server);
    watch(epoll, signals);
    for (int ending_asked = 0;;) {
        struct epoll_event ready[EVENTS];
        int events = epoll_wait(epoll, ready, EVENTS, ending_asked ? 0 : -1);
        if (events < 0 && errno == EINTR) continue;
        if (events < 0) fail("epoll_wait");
        if (events == 0) return 0;
        for (int i = 0; i < events; i++) {
            int descriptor = ready[i].data.fd;
            if (descriptor == signals) {
                ending_asked = 1;
                epoll_ctl(epoll, EPOLL_CTL_DEL, signals, NULL);
            } else if (descriptor == server) {
                int connection = accept4(server, NULL, NULL, SOCK_CLOEXEC);
                if (connection >= 0) watch(epoll, connection);
            } else if (copy(descriptor, file, buffer) <= 0) {
                close(descriptor);
            }
        }
    }
}
