/* In the place of getaddrinfo: no answer for mute.test while the file $MUTE_WHILE exists, then that of localhost. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    const char *mute = getenv("MUTE_WHILE");
    if (node == NULL || mute == NULL || strcmp(node, "mute.test") != 0) {
        return real(node, service, hints, found);
    }
    while (access(mute, F_OK) == 0) {
        usleep(10000);
    }
    return real("127.0.0.1", service, hints, found);
}
