/* The late hook. */
#include "vm/hook.h"

void kt_hook_enter(struct kt_task *task) {
    task->vm->enforce = true;
}

void kt_hook_leave(struct kt_task *task) {
    task->vm->enforce = false;
}
