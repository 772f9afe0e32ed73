/* The backend of compare.py: the cheapest HTTP/1.1 server that keeps connections alive, so that what
 * is measured is the proxy. One thread, one epoll, a fixed 1 KiB answer that names its version.
 *
 *     origin BLUE_PORT GREEN_PORT
 *
 * It reads no bodies: requests end at their blank line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BODY = 1024, MAX_FD = 65536, EVENTS = 256 };

static const char *const versions[2] = {"blue", "green"};
static char answers[2][BODY + 256];
static size_t answer_length[2];

/* What a descriptor is: a listener or a connection, of which version; and how much of the blank line
 * that ends a request has been seen. */
static struct { unsigned char version, listens, seen; } fds[MAX_FD];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void prepare(int version) {
    int head = snprintf(answers[version], sizeof answers[version],
                        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-version: %s\r\n"
                        "content-length: %d\r\n\r\n",
                        versions[version], BODY);
    memset(answers[version] + head, 'x', BODY);
    answer_length[version] = (size_t)head + BODY;
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static void listen_on(int epoll, int version, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0 || fd >= MAX_FD) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(fd, 1024) < 0) die("listen");
    fds[fd].version = (unsigned char)version;
    fds[fd].listens = 1;
    watch(epoll, fd);
}

static void accept_all(int epoll, int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
        if (fd < 0) return;
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        fds[fd].version = fds[listener].version;
        fds[fd].listens = 0;
        fds[fd].seen = 0;
        watch(epoll, fd);
    }
}

/* Answers each request whose end has been read; 0 when the connection is over. An answer that does
 * not fit into the socket's buffer at once ends it: the peer does not read, and this is no proxy. */
static int serve(int fd) {
    static const char end[4] = {'\r', '\n', '\r', '\n'};
    char buffer[16384];
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    int version = fds[fd].version;
    unsigned seen = fds[fd].seen;
    for (ssize_t i = 0; i < got; i++) {
        seen = buffer[i] == end[seen] ? seen + 1 : buffer[i] == '\r';
        if (seen < sizeof end) continue;
        seen = 0;
        if (write(fd, answers[version], answer_length[version]) != (ssize_t)answer_length[version])
            return 0;
    }
    fds[fd].seen = (unsigned char)seen;
    return 1;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: origin BLUE_PORT GREEN_PORT\n");
        return 2;
    }
    int epoll = epoll_create1(0);
    if (epoll < 0) die("epoll_create1");
    for (int version = 0; version < 2; version++) {
        prepare(version);
        listen_on(epoll, version, atoi(arguments[1 + version]));
    }
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fds[fd].listens) accept_all(epoll, fd);
            else if (!serve(fd)) close(fd);
        }
    }
}
