/* Runs a program and prints the largest resident size, in KiB, of it and of what it has waited for.
 *
 *   peak PROGRAM [ARGUMENT...] */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
    struct rusage used;
    int status;
    if (count < 2)
        return 125;
    pid_t child = fork();
    if (child == 0) {
        /* The number is for the reader of our output; the program's own goes elsewhere. */
        close(1);
        dup2(2, 1);
        execv(words[1], words + 1);
        _exit(126);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0 || getrusage(RUSAGE_CHILDREN, &used) != 0)
        return 125;
    printf("%ld\n", used.ru_maxrss);
    return 0;
}
