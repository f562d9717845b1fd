#include "table/cells.h"

#include <string.h>
#include <strings.h>

#include "table/calendar.h"

#define INTEGER_MAX (1LL << 53)

int32_t kt_cells_number(const struct kt_dict *d, int32_t count, int scale, int64_t *out,
                        uint8_t *bad) {
    int32_t bads = 0;
    for (int32_t i = 0; i < count; i++) {
        size_t n;
        const char *s = kt_dict_text(d, i, &n);
        out[i] = KT_NULL64;
        bad[i] = (uint8_t)kt_dec_parse64(s, n, scale, &out[i]);
        bads += bad[i] != 0;
    }
    return bads;
}

int32_t kt_cells_integer(const struct kt_dict *d, int32_t count, int64_t *out, uint8_t *bad) {
    int32_t bads = 0;
    for (int32_t i = 0; i < count; i++) {
        size_t n;
        int64_t v = 0;
        const char *s = kt_dict_text(d, i, &n);
        enum kt_cell cell = kt_dec_parse64(s, n, 0, &v);
        if (cell == KT_CELL_TOO_PRECISE || cell == KT_CELL_BAD_NUMBER)
            cell = KT_CELL_BAD_INTEGER;
        if (cell == KT_CELL_OK && (v > INTEGER_MAX || v < -INTEGER_MAX))
            cell = KT_CELL_OUT_OF_RANGE;
        out[i] = cell == KT_CELL_OK ? v : KT_NULL64;
        bad[i] = (uint8_t)cell;
        bads += bad[i] != 0;
    }
    return bads;
}

int32_t kt_cells_day(const struct kt_dict *d, int32_t count, int32_t *out, uint8_t *bad,
                     uint8_t *stamps) {
    int32_t bads = 0;
    for (int32_t i = 0; i < count; i++) {
        size_t n;
        int stamp = 0;
        const char *s = kt_dict_text(d, i, &n);
        out[i] = KT_NULL32;
        bad[i] = (uint8_t)kt_day_parse(s, n, &out[i], &stamp);
        stamps[i] = (uint8_t)(stamp && bad[i] == 0);
        bads += bad[i] != 0;
    }
    return bads;
}

int32_t kt_cells_flag(const struct kt_dict *d, int32_t count, int32_t *out, uint8_t *bad) {
    static const struct {
        const char *text;
        int value;
    } flags[] = {{"1", 1}, {"0", 0}, {"true", 1}, {"false", 0}, {"x", 1}};
    int32_t bads = 0;
    for (int32_t i = 0; i < count; i++) {
        size_t n;
        const char *s = kt_dict_text(d, i, &n);
        out[i] = KT_NULL32;
        bad[i] = KT_CELL_BAD_FLAG;
        for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++) {
            if (strlen(flags[k].text) == n && strncasecmp(flags[k].text, s, n) == 0) {
                out[i] = flags[k].value;
                bad[i] = 0;
            }
        }
        bads += bad[i] != 0;
    }
    return bads;
}

int32_t kt_cells_allowed(const struct kt_dict *d, int32_t count, const struct kt_dict *allowed,
                         uint8_t *bad) {
    int32_t bads = 0;
    for (int32_t i = 0; i < count; i++) {
        size_t n;
        const char *s = kt_dict_text(d, i, &n);
        bad[i] = kt_dict_find(allowed, s, n) < 0 ? KT_CELL_NOT_ALLOWED : 0;
        bads += bad[i] != 0;
    }
    return bads;
}
