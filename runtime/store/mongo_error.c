/* Errors of the driver and of servers as ours (store.md 3.1). A server's text may hold values of
 * documents: it goes into our message only where it cannot. */
#include <stdio.h>
#include <string.h>

#include "store/mongo.h"

int mg_code(int32_t number) {
    switch (number) {
    case 11000:
    case 11001:
    case 12582:
        return KT_ALREADY_EXISTS;
    case 85: /* IndexOptionsConflict */
    case 86: /* IndexKeySpecsConflict */
        return KT_CONFLICT;
    case 6:     /* HostUnreachable */
    case 7:     /* HostNotFound */
    case 89:    /* NetworkTimeout */
    case 91:    /* ShutdownInProgress */
    case 112:   /* WriteConflict */
    case 189:   /* PrimarySteppedDown */
    case 251:   /* NoSuchTransaction */
    case 10107: /* NotWritablePrimary */
    case 11600: /* InterruptedAtShutdown */
    case 11602: /* InterruptedDueToReplStateChange */
    case 13435: /* NotPrimaryNoSecondaryOk */
    case 13436: /* NotPrimaryOrSecondary */
    case 13388: /* StaleConfig */
        return KT_STORE_UNAVAILABLE;
    case 50:  /* MaxTimeMSExpired */
    case 262: /* ExceededTimeLimit */
        return KT_DEADLINE_EXCEEDED;
    case 64:  /* WriteConcernFailed */
    case 100: /* UnsatisfiableWriteConcern */
        return KT_OUTCOME_UNKNOWN;
    case 10334: /* BSONObjectTooLarge */
    case 17280: /* KeyTooLong */
        return KT_BODY_TOO_LARGE;
    case 14031: /* OutOfDiskSpace */
        return KT_STORAGE_FULL;
    case 2:  /* BadValue */
    case 9:  /* FailedToParse */
    case 14: /* TypeMismatch */
    case 28: /* PathNotViable */
    case 40: /* ConflictingUpdateOperators */
    case 52: /* DollarPrefixedFieldName */
    case 53: /* InvalidIdField */
    case 66: /* ImmutableField */
    case 73: /* InvalidNamespace */
        return KT_INVALID_ARGUMENT;
    default:
        return KT_INTERNAL;
    }
}

int mg_fail(const bson_error_t *error, const bson_t *reply, bool sent, struct kt_error *err) {
    /* Selecting a server fails before anything is sent, unless a retry looked for another one: then
     * the driver labels it. */
    bool retried = reply != NULL && mongoc_error_has_label(reply, "RetryableWriteError");
    if (error->domain == MONGOC_ERROR_SERVER_SELECTION)
        return retried && sent
                   ? kt_fail(err, KT_OUTCOME_UNKNOWN, "MongoDB was lost while it wrote")
                   : kt_fail(err, KT_STORE_UNAVAILABLE,
                             "no MongoDB server can be written to: %.300s", error->message);
    if (error->domain == MONGOC_ERROR_STREAM)
        return sent
                   ? kt_fail(err, KT_OUTCOME_UNKNOWN, "MongoDB was lost while it wrote: %.300s",
                             error->message)
                   : kt_fail(err, KT_STORE_UNAVAILABLE, "MongoDB was lost: %.300s", error->message);
    if (error->domain == MONGOC_ERROR_CLIENT) {
        if (error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE)
            return kt_fail(err, KT_STORE_UNAVAILABLE, "MongoDB refuses our user: %.300s",
                           error->message);
        return kt_fail(err, KT_INTERNAL, "MongoDB driver: %.300s", error->message);
    }
    if (error->domain == MONGOC_ERROR_BSON)
        return kt_fail(err, KT_BODY_TOO_LARGE, "MongoDB driver: %.300s", error->message);
    if (error->domain == MONGOC_ERROR_WRITE_CONCERN)
        return kt_fail(err, KT_OUTCOME_UNKNOWN, "written, but not by a majority in time (%u)",
                       error->code);
    int code = mg_code((int32_t)error->code);
    /* A primary that steps down or ends may have made the write; the driver retried once. */
    if (sent && code == KT_STORE_UNAVAILABLE && error->code != 112 && error->code != 251 &&
        error->code != 10107 && error->code != 13435)
        code = KT_OUTCOME_UNKNOWN;
    if (code == KT_DEADLINE_EXCEEDED)
        return kt_fail(err, KT_DEADLINE_EXCEEDED, "the store did not answer in time");
    if (code == KT_INTERNAL && (error->code == 13 || error->code == 18 || error->code == 8000))
        return kt_fail(err, KT_INTERNAL, "MongoDB does not allow our user to do this (%u)",
                       error->code);
    return kt_fail(err, (enum kt_code)code, "MongoDB error %u: %.300s", error->code,
                   error->message);
}

void mg_dup_key(const char *text, const bson_iter_t *error, char out[KT_NAME_MAX + 1]) {
    const char *at = text != NULL ? strstr(text, "index: ") : NULL;
    bson_iter_t it, keys;
    memcpy(out, "_id", 4);
    if (at != NULL) {
        at += strlen("index: ");
        int n = (int)strcspn(at, " ");
        if (n != 4 || strncmp(at, "_id_", 4) != 0)
            snprintf(out, KT_NAME_MAX + 1, "%.*s", n, at);
        return;
    }
    it = *error; /* servers that name no index tell its keys */
    if (bson_iter_recurse(error, &it) && bson_iter_find(&it, "keyPattern") &&
        bson_iter_recurse(&it, &keys) && bson_iter_next(&keys) &&
        strcmp(bson_iter_key(&keys), "_id") != 0)
        snprintf(out, KT_NAME_MAX + 1, "%s", bson_iter_key(&keys));
}
