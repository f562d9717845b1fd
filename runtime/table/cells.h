/* Texts of a dictionary -> typed values, each distinct text once. */
#pragma once

#include <stdint.h>

#include "table/decimal.h"
#include "table/dict.h"

/* out[code] and bad[code] (enum kt_cell) for the first `count` codes; a bad one gives NULL. Return
 * how many are bad. */
int32_t kt_cells_number(const struct kt_dict *d, int32_t count, int scale, int64_t *out,
                        uint8_t *bad);
int32_t kt_cells_integer(const struct kt_dict *d, int32_t count, int64_t *out, uint8_t *bad);
/* stamps[code] = 1 for a timestamp whose date part was taken. */
int32_t kt_cells_day(const struct kt_dict *d, int32_t count, int32_t *out, uint8_t *bad,
                     uint8_t *stamps);
int32_t kt_cells_flag(const struct kt_dict *d, int32_t count, int32_t *out, uint8_t *bad);
/* The texts that are not in `allowed` are bad. */
int32_t kt_cells_allowed(const struct kt_dict *d, int32_t count, const struct kt_dict *allowed,
                         uint8_t *bad);
