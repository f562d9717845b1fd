/* UUIDv7: sortable by time of making. */
#pragma once

#define KT_UUID_SIZE 33 /* 32 hex digits and the end */

/* Strictly increasing within the process, also inside one millisecond. Any thread. */
void kt_uuid7(char out[KT_UUID_SIZE]);
