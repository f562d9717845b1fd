/* The command line. */
#include <stdio.h>

int main(void) {
    fprintf(stderr, "kontor: no commands yet\n");
    return 2;
}
