/* What a proxy over sockets and epoll cannot do without: a forwarder of bytes that reads none of them.
 *
 *     rawtcp PORT BACKEND_PORT
 *
 * One thread, one epoll, one connection to the backend for each client, two reads and two writes a
 * request. The limit that compare.py holds the proxies against. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 256, BUFFER = 65536 };

/* One end of a pair; what has been read from the other end and did not fit waits here. */
struct end {
    int fd, closed;
    struct end *peer;
    unsigned events;
    size_t from, to;
    char *waiting;
};

static int epoll;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void watch(struct end *end, unsigned events) {
    if (end->events == events) return;
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (epoll_ctl(epoll, end->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, end->fd, &event) < 0) die("epoll_ctl");
    end->events = events;
}

static struct end *new_end(int fd) {
    struct end *end = calloc(1, sizeof *end);
    if (!end) die("calloc");
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    end->fd = fd;
    return end;
}

static void accept_one(int listener, struct sockaddr_in backend) {
    int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (client < 0) return;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (server < 0) die("socket");
    if (connect(server, (struct sockaddr *)&backend, sizeof backend) < 0 && errno != EINPROGRESS) {
        close(server);
        close(client);
        return;
    }
    struct end *front = new_end(client), *back = new_end(server);
    front->peer = back;
    back->peer = front;
    watch(front, EPOLLIN);
    watch(back, EPOLLIN);
}

static int is_over(ssize_t result) {
    return result == 0 || (result < 0 && errno != EAGAIN && errno != EINTR);
}

/* Writes what waits; whoever has nothing waiting reads from its peer again. 0 when the pair is over. */
static int drain(struct end *end) {
    ssize_t sent = write(end->fd, end->waiting + end->from, end->to - end->from);
    if (is_over(sent)) return 0;
    if (sent > 0) end->from += (size_t)sent;
    if (end->from == end->to) {
        free(end->waiting);
        end->waiting = NULL;
        watch(end, end->events & ~(unsigned)EPOLLOUT);
        watch(end->peer, end->peer->events | EPOLLIN);
    }
    return 1;
}

/* 0 when the pair is over. */
static int forward(struct end *end) {
    static char buffer[BUFFER];
    struct end *peer = end->peer;
    ssize_t got = read(end->fd, buffer, sizeof buffer);
    if (is_over(got)) return 0;
    if (got < 0) return 1;
    ssize_t sent = write(peer->fd, buffer, (size_t)got);
    if (is_over(sent)) return 0;
    if (sent < 0) sent = 0;
    if (sent == got) return 1;
    if (!(peer->waiting = malloc((size_t)(got - sent)))) die("malloc");
    peer->from = 0;
    peer->to = (size_t)(got - sent);
    memcpy(peer->waiting, buffer + sent, peer->to);
    watch(peer, peer->events | EPOLLOUT);
    /* An epoll set without EPOLLIN still tells of the end of the connection. */
    watch(end, (end->events & ~(unsigned)EPOLLIN) | EPOLLRDHUP);
    return 1;
}

static void close_pair(struct end *end) {
    end->closed = end->peer->closed = 1;
    close(end->fd);
    close(end->peer->fd);
}

static void serve(struct end *end, unsigned events) {
    int goes_on = 1;
    if (events & EPOLLOUT) goes_on = drain(end);
    if (goes_on && events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP) && !end->peer->waiting) goes_on = forward(end);
    if (!goes_on) close_pair(end);
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: rawtcp PORT BACKEND_PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = loopback(atoi(arguments[1])), backend = loopback(atoi(arguments[2]));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    if (listener < 0) die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(listener, 4096) < 0) die("listen");
    if ((epoll = epoll_create1(0)) < 0) die("epoll_create1");
    struct end accepts = {.fd = listener};
    watch(&accepts, EPOLLIN);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct end *end = events[i].data.ptr;
            if (end == &accepts) accept_one(listener, backend);
            else if (!end->closed) serve(end, events[i].events);
        }
        /* Freed only now: the other end may have had an event of its own in the same batch. */
        for (int i = 0; i < ready; i++) {
            struct end *end = events[i].data.ptr;
            if (end == &accepts || !end->closed) continue;
            struct end *peer = end->peer;
            for (int j = i; j < ready; j++)
                if (events[j].data.ptr == end || events[j].data.ptr == peer) events[j].data.ptr = &accepts;
            free(end->waiting);
            free(peer->waiting);
            free(end);
            free(peer);
        }
    }
}
