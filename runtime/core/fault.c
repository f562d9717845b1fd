/* The armed fault points: a short list under a mutex. */
#include "core/fault.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAULTS_MAX 16

struct armed {
    char name[48];
    int left; /* passes until it fires; 0: every pass fires */
};

static struct armed list[FAULTS_MAX];
static _Atomic int count; /* written under lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int find(const char *point) {
    for (int i = 0; i < count; i++)
        if (strcmp(list[i].name, point) == 0)
            return i;
    return -1;
}

static void drop(int i) {
    list[i] = list[count - 1];
    count--;
}

bool kt_fault(const char *point) {
    if (atomic_load_explicit(&count, memory_order_relaxed) == 0)
        return false;
    bool fires = false;
    pthread_mutex_lock(&lock);
    int i = find(point);
    if (i >= 0 && list[i].left == 0)
        fires = true;
    else if (i >= 0 && --list[i].left == 0) {
        fires = true;
        drop(i);
    }
    pthread_mutex_unlock(&lock);
    return fires;
}

void kt_fault_arm(const char *point, int nth) {
    pthread_mutex_lock(&lock);
    int i = find(point);
    if (i >= 0)
        drop(i);
    if (nth >= 0 && count < FAULTS_MAX) {
        snprintf(list[count].name, sizeof list[count].name, "%s", point);
        list[count].left = nth;
        count++;
    }
    pthread_mutex_unlock(&lock);
}

void kt_fault_clear(void) {
    pthread_mutex_lock(&lock);
    count = 0;
    pthread_mutex_unlock(&lock);
}

/* One "name:N" of the text; returns what follows its comma, NULL when it is wrong. */
static const char *one(const char *text, char name[48], int *nth) {
    size_t len = strcspn(text, ":,");
    if (len == 0 || len >= 48 || text[len] != ':')
        return NULL;
    memcpy(name, text, len);
    name[len] = '\0';
    text += len + 1;
    char *end;
    if (*text == '*') {
        *nth = 0;
        end = (char *)text + 1;
    } else {
        long n = strtol(text, &end, 10);
        if (end == text || n < 1 || n > 1000000000)
            return NULL;
        *nth = (int)n;
    }
    if (*end == ',')
        return end + 1;
    return *end == '\0' ? end : NULL;
}

int kt_fault_arm_text(const char *text, struct kt_error *err) {
    char name[48];
    int nth, points = 0;
    for (const char *at = text; *at != '\0'; points++)
        if ((at = one(at, name, &nth)) == NULL || points == FAULTS_MAX)
            return kt_fail(err, KT_INVALID_ARGUMENT,
                           "KONTOR_FAULT: \"%s\" is not name:N or name:*, joined by commas", text);
    for (const char *at = text; *at != '\0';) {
        at = one(at, name, &nth);
        kt_fault_arm(name, nth);
    }
    return 0;
}
