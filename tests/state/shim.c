/* A disk that forgets: preloaded into a process, it watches what is written to one folder, and can end the
 * process at the n-th write, truncation or sync there, taking back what was not synced until then: all of it, or
 * each write with a coin, some of them torn. While a flag file is there, writes and syncs fail with the error it names.
 *
 *   SHIM_DIR     the folder
 *   SHIM_DIE_AT  end at this operation (1 is the first); 0: never
 *   SHIM_LOSE    what is taken back: all, some, none
 *   SHIM_SEED    for the coins
 *   SHIM_FLAG    path of the flag file, whose content is ENOSPC, EIO or SYNC (only syncs fail, with EIO), and how many
 *                operations still succeed; or DIE, to end at the next one
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file as it was before an unsynced change of its bytes or size, and what the change was. */
struct change {
    struct change *before;
    char path[PATH_MAX];
    off_t at, old_size, new_size;
    char *old_bytes, *new_bytes;
    size_t old_length, new_length;
    /* A sync failed: the system takes the pages for written from then on, and no later sync writes them. */
    int doomed;
    /* On the disk, above others that are doomed. */
    int durable;
};

/* A file whose name is not on the disk yet. */
struct newborn {
    struct newborn *before;
    char path[PATH_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct change *changes;
static struct newborn *newborns;
static unsigned long operations;
static unsigned long long dice = 1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static unsigned roll(unsigned sides) {
    dice = dice * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(dice >> 33) % sides;
}

/* Whether a path is the folder or in it. */
static int is_watched(const char *path) {
    const char *folder = setting("SHIM_DIR");
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_watched(path);
}

static void put(int fd, const char *bytes, size_t length, off_t at) {
    if (length && REAL(pwrite)(fd, bytes, length, at) != (ssize_t)length) abort();
}

static void take_back(struct change *change) {
    int fd = REAL(open)(change->path, O_RDWR);
    if (fd < 0) return;
    put(fd, change->old_bytes, change->old_length, change->at);
    if (REAL(ftruncate)(fd, change->old_size)) abort();
    REAL(close)(fd);
}

static void make_again(struct change *change, size_t length) {
    int fd = REAL(open)(change->path, O_RDWR);
    if (fd < 0) return;
    put(fd, change->new_bytes, length, change->at);
    if (!change->new_length && REAL(ftruncate)(fd, change->new_size)) abort();
    REAL(close)(fd);
}

static void replay(struct change *change) {
    if (!change) return;
    replay(change->before);
    unsigned side = change->durable ? 0 : strcmp(setting("SHIM_LOSE"), "some") ? 3 : roll(4);
    if (side < 2) make_again(change, change->new_length);
    /* A sector is written or not; a longer write may be torn between two. */
    else if (side == 2 && change->new_length > 512)
        make_again(change, roll((unsigned)(change->new_length / 512)) * 512);
}

static void die(void) {
    const char *lose = setting("SHIM_LOSE");
    dice = strtoull(setting("SHIM_SEED"), NULL, 10) * 2 + 1;
    if (strcmp(lose, "none")) {
        for (struct change *change = changes; change; change = change->before) take_back(change);
        replay(changes);
        for (struct newborn *it = newborns; it; it = it->before)
            if (strcmp(lose, "some") || roll(2)) unlink(it->path);
    }
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* What the flag file says, if it is there. */
static int flagged(char text[32]) {
    const char *flag = setting("SHIM_FLAG");
    int fd = *flag ? REAL(open)(flag, O_RDONLY) : -1;
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, 31);
    text[length > 0 ? length : 0] = 0;
    REAL(close)(fd);
    return length > 0;
}

/* Counts an operation; true at the one to end at. */
static int is_last(void) {
    char text[32];
    operations++;
    return operations == strtoul(setting("SHIM_DIE_AT"), NULL, 10) || (flagged(text) && !strncmp(text, "DIE", 3));
}

/* The error that a write or a sync fails with now, if any. */
static int failure(int is_sync) {
    static unsigned long seen;
    char text[32];
    if (!flagged(text)) {
        seen = 0;
        return 0;
    }
    const char *rest = strchr(text, ' ');
    if (seen++ < (rest ? strtoul(rest, NULL, 10) : 0)) return 0;
    if (!strncmp(text, "SYNC", 4)) return is_sync ? EIO : 0;
    return !strncmp(text, "EIO", 3) ? EIO : ENOSPC;
}

static struct change *remember(int fd, const char *path, off_t at, size_t length, off_t new_size) {
    struct change *change = calloc(1, sizeof *change);
    struct stat now;
    if (!change || fstat(fd, &now)) abort();
    strcpy(change->path, path);
    change->at = at;
    change->old_size = now.st_size;
    change->new_size = new_size;
    if (at < now.st_size) {
        size_t rest = (size_t)(now.st_size - at);
        change->old_length = length < rest ? length : rest;
        change->old_bytes = malloc(change->old_length + 1);
        if (pread(fd, change->old_bytes, change->old_length, at) != (ssize_t)change->old_length) abort();
    }
    change->before = changes;
    changes = change;
    return change;
}

static ssize_t write_at(int fd, const char *path, const void *bytes, size_t length, off_t at) {
    pthread_mutex_lock(&lock);
    int last = is_last(), error = failure(0);
    ssize_t written = -1;
    if (!error) {
        struct change *change = remember(fd, path, at, length, 0);
        change->new_length = length;
        change->new_bytes = malloc(length + 1);
        memcpy(change->new_bytes, bytes, length);
        written = REAL(pwrite)(fd, bytes, length, at);
        error = errno;
    }
    if (last) die();
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return REAL(write)(fd, bytes, length);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t written = write_at(fd, path, bytes, length, at);
    if (written > 0) lseek(fd, at + written, SEEK_SET);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return REAL(pwrite)(fd, bytes, length, at);
    return write_at(fd, path, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return pwrite(fd, bytes, length, at);
}

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return REAL(ftruncate)(fd, size);
    pthread_mutex_lock(&lock);
    int last = is_last();
    struct stat now;
    if (fstat(fd, &now)) abort();
    off_t from = size < now.st_size ? size : now.st_size;
    remember(fd, path, from, (size_t)(now.st_size - from), size);
    int done = REAL(ftruncate)(fd, size);
    if (last) die();
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

/* What is in the file, or the names in the folder, are on the disk from now on. The disk is not asked: only the
 * process ends here, not the machine. */
static int synced(int fd) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return REAL(fsync)(fd);
    pthread_mutex_lock(&lock);
    if (is_last()) die();
    int error = failure(1);
    struct stat now;
    if (!error && !fstat(fd, &now) && S_ISDIR(now.st_mode)) newborns = NULL;
    int above_doomed = 0;
    for (struct change *it = changes; it; it = it->before) above_doomed |= it->doomed && !strcmp(it->path, path);
    struct change **next = &changes;
    while (*next) {
        struct change *it = *next;
        int ours = !strcmp(it->path, path) && !it->doomed && !it->durable;
        if (ours && error) it->doomed = 1;
        else if (ours && above_doomed) it->durable = 1;
        if (ours && !error && !above_doomed) *next = it->before;
        else next = &it->before;
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return error ? -1 : 0;
}

int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

static int opened(int folder, const char *path, int flags, mode_t mode) {
    int is_new = (flags & O_CREAT) && is_watched(path) && access(path, F_OK);
    int fd = REAL(openat)(folder, path, flags, mode);
    if (is_new && fd >= 0) {
        struct newborn *it = calloc(1, sizeof *it);
        if (!it) abort();
        strncpy(it->path, path, PATH_MAX - 1);
        pthread_mutex_lock(&lock);
        it->before = newborns;
        newborns = it;
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & O_CREAT) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }
