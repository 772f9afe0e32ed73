/* The backend of compare.py: the cheapest HTTP/1.1 server that keeps connections alive, so that what
 * is measured is the proxy. One thread, one epoll, fixed answers that name their version.
 *
 *     origin BLUE_PORT GREEN_PORT
 *
 * The target chooses the answer: /100k is 100 KiB, /small 32 bytes, all else 1 KiB. Bodies are skipped by
 * their Content-Length; chunked ones are not understood, and one request waits for the other's answer. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MAX_FD = 65536, EVENTS = 256, HEAD = 8192, VERSIONS = 2, KINDS = 3 };

static const char *const versions[VERSIONS] = {"blue", "green"};
static const struct { const char *target; size_t body; } kinds[KINDS] = {
    {" /100k ", 100 * 1024}, {" /small ", 32}, {" ", 1024}, /* the last one fits all */
};
static struct answer { char *bytes; size_t length; } answers[VERSIONS][KINDS];

/* What a descriptor is: a listener or a connection, and of which version. */
static struct fd {
    int version, listens;
    size_t body_left;      /* of the request, still to be skipped */
    const char *out;       /* of the answer, still to be written */
    size_t out_left;
    size_t head_length;    /* of a head that has come in part */
    char *head;
} *fds[MAX_FD];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void prepare(void) {
    for (int version = 0; version < VERSIONS; version++) {
        for (int kind = 0; kind < KINDS; kind++) {
            size_t body = kinds[kind].body;
            struct answer *answer = &answers[version][kind];
            if (!(answer->bytes = malloc(body + 256))) die("malloc");
            int head = snprintf(answer->bytes, 256,
                                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-version: %s\r\n"
                                "content-length: %zu\r\n\r\n",
                                versions[version], body);
            memset(answer->bytes + head, 'x', body);
            answer->length = (size_t)head + body;
        }
    }
}

static void watch(int epoll, int operation, int fd, unsigned what) {
    struct epoll_event event = {.events = what, .data.fd = fd};
    if (epoll_ctl(epoll, operation, fd, &event) < 0) die("epoll_ctl");
}

/* Takes note of a new descriptor; 0 when there are too many. */
static int add(int epoll, int fd, int version, int listens) {
    if (fd >= MAX_FD || !(fds[fd] = calloc(1, sizeof *fds[fd]))) return 0;
    fds[fd]->version = version;
    fds[fd]->listens = listens;
    watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN);
    return 1;
}

static void end(int fd) {
    free(fds[fd]->head);
    free(fds[fd]);
    fds[fd] = NULL;
    close(fd);
}

static void listen_on(int epoll, int version, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(fd, 4096) < 0) die("listen");
    if (!add(epoll, fd, version, 1)) die("add");
}

static void accept_all(int epoll, int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (!add(epoll, fd, fds[listener]->version, 0)) close(fd);
    }
}

/* Writes what is left of the answer, and waits for room where there is none; 0 when the connection is over. */
static int flush(int epoll, int fd, int waited) {
    struct fd *state = fds[fd];
    ssize_t sent = write(fd, state->out, state->out_left);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return 0;
    if (sent > 0) {
        state->out += sent;
        state->out_left -= (size_t)sent;
    }
    int waits = state->out_left > 0;
    if (waits != waited) watch(epoll, EPOLL_CTL_MOD, fd, waits ? EPOLLOUT : EPOLLIN);
    return 1;
}

/* Takes in a whole head, with its blank line. */
static void judge(struct fd *state, const char *head, size_t length) {
    const char *target = memchr(head, ' ', length);
    int kind = 0;
    while (kind < KINDS - 1 && strncmp(target ? target : head, kinds[kind].target, strlen(kinds[kind].target))) kind++;
    state->out = answers[state->version][kind].bytes;
    state->out_left = answers[state->version][kind].length;
    if (head[0] != 'P') return;
    for (const char *line = head; (line = memchr(line, '\n', length - (size_t)(line - head))); ) {
        if (strncasecmp(++line, "content-length:", 15) == 0) {
            state->body_left = strtoul(line + 15, NULL, 10);
            return;
        }
    }
}

/* Reads, skips and answers; 0 when the connection is over. */
static int serve(int epoll, int fd) {
    static char buffer[HEAD + 65536 + 1];
    struct fd *state = fds[fd];
    size_t have = state->head_length;
    if (have) memcpy(buffer, state->head, have);
    ssize_t got = read(fd, buffer + have, sizeof buffer - 1 - have);
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    have += (size_t)got;
    buffer[have] = 0;
    size_t at = 0;
    state->head_length = 0;
    if (!state->out_left) {
        char *blank = memmem(buffer, have, "\r\n\r\n", 4);
        if (!blank) {
            if (have > HEAD || (!state->head && !(state->head = malloc(HEAD)))) return 0;
            memcpy(state->head, buffer, have);
            state->head_length = have;
            return 1;
        }
        at = (size_t)(blank - buffer) + 4;
        judge(state, buffer, at);
    }
    /* The answer is set when the head is read, and written when the body has been. */
    if (have - at > state->body_left) return 0;
    state->body_left -= have - at;
    return state->body_left ? 1 : flush(epoll, fd, 0);
}

int main(int count, char **arguments) {
    if (count != 1 + VERSIONS) {
        fprintf(stderr, "usage: origin BLUE_PORT GREEN_PORT\n");
        return 2;
    }
    int epoll = epoll_create1(0);
    if (epoll < 0) die("epoll_create1");
    prepare();
    for (int version = 0; version < VERSIONS; version++) listen_on(epoll, version, atoi(arguments[1 + version]));
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fds[fd]->listens) accept_all(epoll, fd);
            else if (!(events[i].events & EPOLLOUT ? flush(epoll, fd, 1) : serve(epoll, fd))) end(fd);
        }
    }
}
