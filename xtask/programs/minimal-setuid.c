/* The least that a setuid program can do to run PROGRAM as another account, without any policy: a peer of the benchmark.
 * With -DBY_NUMBER the account is two numbers and the program needs no name service, so it can be linked statically.
 *
 *   minimal-setuid ACCOUNT PROGRAM [ARGUMENT...]
 *   minimal-setuid UID:GID PROGRAM [ARGUMENT...] */
#define _GNU_SOURCE
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words)
{
    char *environment[] = {NULL};
    uid_t uid;
    gid_t gid;
    if (count < 3)
        return 125;
#ifdef BY_NUMBER
    char *rest;
    uid = strtoul(words[1], &rest, 10);
    gid = *rest ? strtoul(rest + 1, NULL, 10) : 0;
    if (uid == 0 || gid == 0 || setgroups(0, NULL) != 0)
        return 125;
#else
    struct passwd *account = getpwnam(words[1]);
    if (account == NULL || account->pw_uid == 0)
        return 125;
    uid = account->pw_uid;
    gid = account->pw_gid;
    if (initgroups(words[1], gid) != 0)
        return 125;
#endif
    if (setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return 125;
    execve(words[2], words + 2, environment);
    return 126;
}
