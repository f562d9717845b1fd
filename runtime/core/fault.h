/* Fault points: named places where a test makes the unlikely happen.
 *
 *     if (kt_fault("store.commit"))
 *         return kt_fail(err, KT_STORAGE_FULL, "…");
 *
 * Armed by KONTOR_FAULT=name:N[,name:N…] when the process starts, or by a test: N = the Nth pass
 * from now fires, once; `*` = every pass. Unarmed they cost one relaxed load. Any thread. */
#pragma once

#include "core/err.h"

bool kt_fault(const char *point);              /* true: this pass is to fail */
void kt_fault_arm(const char *point, int nth); /* nth 0: every pass; < 0: disarm */
void kt_fault_clear(void);                     /* disarm all */
/* "name:N,name:*"; nothing is armed when the text is wrong. */
int kt_fault_arm_text(const char *text, struct kt_error *err);
