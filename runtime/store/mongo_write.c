/* Commits. One that is a single write of a single document is a retryable write: the driver sends
 * it again once when its answer is lost, and the server makes it once. Everything else is a
 * transaction, and commits that wait together share one: their inserts go out as one command a
 * collection, and the majority is waited for once. When something in a shared one fails, each runs
 * alone and shows by itself whether it was the one.
 *
 * What a lost answer means: a plain write's outcome stays open (KT_OUTCOME_UNKNOWN); a transaction
 * whose commit was not sent is undone by the server; one whose commit was sent is committed again,
 * which the server answers for the one that was. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/fault.h"
#include "store/mongo_command.h"

#define RETRIES 3               /* of a transaction that the server has undone */
#define MEET_NS 3000000000LL    /* as long as one that met another one is run again */
#define REST_MAX 4              /* the rest between two of them grows so many times */
#define COMMIT_NS 10000000000LL /* as long as a commit without answer is asked for again */
#define STATEMENTS 1000         /* in one command */
#define GATHERED 8              /* collections whose inserts wait at a time */
#define BATCH_BYTES (32u << 20)

/* How the writes of a transaction become commands. */
enum how {
    SHARED, /* several commits: inserts wait until something needs them there */
    ALONE,  /* one commit, in its order; statements that follow each other share a command */
    EXACT   /* one commit, a command a write: what matched nothing is known by name */
};

struct txn {
    mongoc_client_t *client;
    const char *db;
    const bson_t *opts; /* carries the session */
    enum how how;
    int64_t ms;
    struct mg_command gathered[GATHERED];
    struct mg_fault fault;
    struct kt_error *err;
};

static int no_code(struct kt_error *err) {
    return -(int)err->code;
}

/* ---- the writes of a transaction ---- */

static int send_command(struct txn *t, struct mg_command *m) {
    int rc =
        m->count == 0 ? 0 : mg_command_run(m, t->client, t->db, t->opts, t->ms, &t->fault, t->err);
    mg_command_free(m);
    return rc;
}

/* What is gathered for `coll`, or all (NULL). */
static int flush(struct txn *t, const char *coll) {
    int rc = 0;
    for (int i = 0; rc == 0 && i < GATHERED; i++)
        if (t->gathered[i].coll != NULL && (coll == NULL || strcmp(coll, t->gathered[i].coll) == 0))
            rc = send_command(t, &t->gathered[i]);
    return rc;
}

/* Where the write's statements are gathered; NULL and the error in *rc when sending made no room.
 */
static struct mg_command *place_for(struct txn *t, const struct kt_write *w, int *rc) {
    struct mg_command *free_one = NULL;
    *rc = 0;
    for (int i = 0; i < GATHERED; i++) {
        struct mg_command *m = &t->gathered[i];
        enum mg_verb verb = w->kind == KT_INSERT   ? MG_INSERT
                            : w->kind == KT_DELETE ? MG_DELETE
                                                   : MG_UPDATE;
        if (m->coll == NULL)
            free_one = m;
        else if (strcmp(m->coll, w->coll) == 0 && m->verb == verb && m->count < STATEMENTS &&
                 m->statements.len < MG_MESSAGE_MAX)
            return m;
    }
    /* In its own order alone; and what this write may read or meet goes first. */
    *rc = flush(t, t->how == SHARED && free_one != NULL ? w->coll : NULL);
    if (*rc != 0)
        return NULL;
    for (int i = 0; free_one == NULL && i < GATHERED; i++)
        if (t->gathered[i].coll == NULL)
            free_one = &t->gathered[i];
    mg_command_start(free_one, w);
    return free_one;
}

static int gather_docs(struct txn *t, struct kt_commit *commit, int i) {
    struct kt_write *w = &commit->writes[i];
    size_t at = 0;
    int rc = 0;
    while (rc == 0 && at < w->docs.len) {
        bson_t doc;
        rc = mg_doc_at(&w->docs, &at, &doc, t->err);
        struct mg_command *m = rc == 0 ? place_for(t, w, &rc) : NULL;
        if (m == NULL)
            return rc;
        rc = mg_command_add_doc(m, commit, i, &doc, t->err);
        if (rc == 0 && m->statements.len >= MG_MESSAGE_MAX)
            rc = send_command(t, m);
    }
    return rc;
}

/* rc, or that the write had to match something and did not. */
static int must_have_matched(struct kt_commit *commit, int i, int rc, struct mg_fault *fault,
                             struct kt_error *err) {
    const struct kt_write *w = &commit->writes[i];
    if (rc != 0 || !w->must_match || w->matched > 0 || w->upserted != NULL)
        return rc;
    fault->ref = (struct mg_ref){commit, i};
    return kt_fail(err, KT_CONFLICT, "nothing in %s is as expected any more", w->coll);
}

static int run_write(struct txn *t, struct kt_commit *commit, int i) {
    struct kt_write *w = &commit->writes[i];
    int rc;
    if (w->kind == KT_INSERT)
        return gather_docs(t, commit, i);
    bool one = w->want_doc || (w->sort.count > 0 && !w->many);
    /* A statement that must match, or matches or makes, can be counted with others. */
    bool counted = !w->many && (w->must_match || w->upsert) && t->how != EXACT;
    if (!one && counted) {
        struct mg_command *m = place_for(t, w, &rc);
        return m == NULL ? rc : mg_command_add(m, commit, i, t->err);
    }
    if ((rc = flush(t, t->how == SHARED ? w->coll : NULL)) != 0)
        return rc;
    if (one)
        rc = mg_find_and_modify(commit, i, t->client, t->db, t->opts, t->ms, &t->fault, t->err);
    else {
        struct mg_command m = {0};
        mg_command_start(&m, w);
        if ((rc = mg_command_add(&m, commit, i, t->err)) == 0)
            rc = send_command(t, &m);
        mg_command_free(&m);
    }
    return must_have_matched(commit, i, rc, &t->fault, t->err);
}

/* Counted statements of one alone show whether it matched. */
static int check_counted(struct txn *t, struct kt_commit *commit) {
    int rc = 0;
    for (int i = 0; rc == 0 && i < commit->count; i++)
        if (commit->writes[i].kind != KT_INSERT)
            rc = must_have_matched(commit, i, 0, &t->fault, t->err);
    return rc;
}

static int run_writes(struct txn *t, struct kt_commit **commits, int n) {
    int rc = 0;
    for (int c = 0; rc == 0 && c < n; c++)
        for (int i = 0; rc == 0 && i < commits[c]->count; i++) {
            rc = run_write(t, commits[c], i);
            if (rc == 0 && kt_fault("store.write")) {
                t->fault.ref = (struct mg_ref){commits[c], i};
                rc = kt_fail(t->err, KT_STORAGE_FULL, "fault: store.write");
            }
        }
    if (rc == 0)
        rc = flush(t, NULL);
    for (int c = 0; rc == 0 && c < n; c++)
        rc = check_counted(t, commits[c]);
    for (int i = 0; i < GATHERED; i++)
        mg_command_free(&t->gathered[i]);
    return rc;
}

/* ---- transactions ---- */

static void rest(int attempt) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* two that met do not meet again */
    int times = 1 << (attempt < REST_MAX ? attempt : REST_MAX);
    nanosleep(&(struct timespec){0, times * (4000000 + now.tv_nsec % 8000000)}, NULL);
}

/* Send the commit until it is answered. */
static int end(mongoc_client_session_t *session, struct mg_fault *undone, struct kt_error *err) {
    int64_t until = kt_now_ns() + COMMIT_NS;
    for (;;) {
        bson_t reply;
        bson_error_t error;
        bool fault = kt_fault("store.fsync");
        if (fault)
            return kt_fail(err, KT_OUTCOME_UNKNOWN, "fault: store.fsync");
        bool ok = mongoc_client_session_commit_transaction(session, &reply, &error);
        bool unknown = !ok && mongoc_error_has_label(&reply, "UnknownTransactionCommitResult");
        /* NoSuchTransaction (251) may be the answer to a commit sent again after the first one was
         * made and the server started anew: not run again. */
        unknown = unknown || (!ok && error.code == 251);
        undone->transient =
            !ok && !unknown && mongoc_error_has_label(&reply, "TransientTransactionError");
        undone->number = !ok && error.domain == MONGOC_ERROR_SERVER ? (int)error.code : 0;
        int rc = ok ? 0 : mg_fail(&error, &reply, true, err);
        bson_destroy(&reply);
        if (ok || !unknown || error.code == 251 || kt_now_ns() >= until) {
            if (unknown)
                rc =
                    kt_fail(err, KT_OUTCOME_UNKNOWN, "MongoDB did not answer whether it committed");
            return rc;
        }
        nanosleep(&(struct timespec){0, 100000000}, NULL);
    }
}

static void clear(struct kt_commit **commits, int n) {
    for (int i = 0; i < n; i++)
        kt_commit_clear(commits[i]);
}

/* Another transaction was in its way: that one has made what it wanted, so somebody always goes on.
 * WriteConflict, LockTimeout, SnapshotUnavailable. */
static bool met_another(const struct mg_fault *fault) {
    return fault->number == 112 || fault->number == 24 || fault->number == 246;
}

/* All or nothing. `fault` tells of what went wrong. */
static int run_txn(struct mg_engine *e, mongoc_client_t *client, const char *db,
                   struct kt_commit **commits, int n, enum how how, struct mg_fault *fault,
                   struct kt_error *err) {
    bson_error_t error;
    mongoc_session_opt_t *opts = mongoc_session_opts_new();
    mongoc_session_opts_set_causal_consistency(opts, false);
    mongoc_client_session_t *session = mongoc_client_start_session(client, opts, &error);
    mongoc_session_opts_destroy(opts);
    memset(fault, 0, sizeof *fault);
    if (session == NULL)
        return mg_fail(&error, NULL, false, err);
    int rc = 0;
    int64_t until = kt_now_ns() + MEET_NS;
    bool again = true;
    for (int attempt = 0; again; attempt++) {
        bson_t with = BSON_INITIALIZER;
        struct txn t = {.client = client, .db = db, .opts = &with, .how = how, .err = err};
        if (attempt > 0) {
            rest(attempt);
            clear(commits, n);
        }
        t.ms = 0;
        for (int i = 0; i < n; i++) {
            int64_t ms = mg_time(&commits[i]->limits);
            t.ms = ms > t.ms ? ms : t.ms;
        }
        if (!mongoc_client_session_start_transaction(session, e->txn_opts, &error) ||
            !mongoc_client_session_append(session, &with, &error))
            rc = mg_fail(&error, NULL, false, err);
        else if ((rc = run_writes(&t, commits, n)) == 0)
            rc = end(session, &t.fault, err);
        else {
            /* Not committed, so undone, whatever was lost on the way. */
            if (rc == -KT_OUTCOME_UNKNOWN)
                rc = kt_fail(err, KT_STORE_UNAVAILABLE,
                             "MongoDB was lost during a transaction, which is undone");
            mongoc_client_session_abort_transaction(session,
                                                    NULL); /* else the server does, in a minute */
        }
        *fault = t.fault;
        again =
            t.fault.transient &&
            (attempt < RETRIES || (how != SHARED && met_another(&t.fault) && kt_now_ns() < until));
        bson_destroy(&with);
    }
    mongoc_client_session_destroy(session);
    return rc;
}

/* ---- commits ---- */

static void failed(struct kt_commit *commit, int rc, const struct kt_error *err,
                   const struct mg_fault *fault) {
    kt_commit_clear(commit);
    commit->rc = rc;
    commit->error = *err;
    commit->outcome_unknown = rc == -KT_OUTCOME_UNKNOWN;
    if (fault != NULL && fault->ref.commit == commit) {
        commit->failed_at = fault->ref.write;
        commit->number = fault->number;
        memcpy(commit->failed_key, fault->key, sizeof fault->key);
    }
}

/* What the engines refuse alike, before anything is sent. */
static int check(struct kt_commit *commit, struct kt_error *err) {
    int rc = kt_limit_check(&commit->limits, err);
    for (int i = 0; rc == 0 && i < commit->count; i++) {
        const struct kt_write *w = &commit->writes[i];
        size_t at = 0;
        bson_t doc, seed = BSON_INITIALIZER;
        while (rc == 0 && at < w->docs.len)
            if ((rc = mg_doc_at(&w->docs, &at, &doc, err)) == 0)
                rc = kt_doc_check(&doc, err);
        if (rc == 0 && w->upsert)
            rc = kt_upsert_seed(&w->filter, &seed, err);
        bson_destroy(&seed);
        if (rc != 0)
            commit->failed_at = i;
    }
    return rc;
}

static bool is_plain(const struct kt_commit *commit) {
    const struct kt_write *w = &commit->writes[0];
    uint32_t first;
    if (commit->count != 1 || w->many)
        return false;
    if (w->kind != KT_INSERT)
        return true;
    if (w->docs.len < sizeof first)
        return false;
    memcpy(&first, w->docs.data, sizeof first);
    return BSON_UINT32_FROM_LE(first) == w->docs.len;
}

static bool upserts(const struct kt_commit *commit, const struct mg_fault *fault) {
    return fault->ref.commit == commit && commit->writes[fault->ref.write].upsert;
}

static int try_alone(struct mg_engine *e, mongoc_client_t *client, const char *db,
                     struct kt_commit *commit, struct mg_fault *fault, struct kt_error *err) {
    int rc = 0;
    for (int attempt = 0; attempt < 2; attempt++) {
        memset(fault, 0, sizeof *fault);
        kt_commit_clear(commit);
        if (!is_plain(commit))
            rc = run_txn(e, client, db, &commit, 1, ALONE, fault, err);
        else if (kt_fault("store.write"))
            rc = kt_fail(err, KT_STORAGE_FULL, "fault: store.write");
        else
            rc = must_have_matched(commit, 0, mg_write_alone(e, client, db, commit, fault, err),
                                   fault, err);
        if (rc == -KT_CONFLICT && fault->uncounted) {
            kt_commit_clear(commit);
            rc = run_txn(e, client, db, &commit, 1, EXACT, fault, err);
        }
        /* Two that made the same document at once: the other one has made it now. */
        if (rc != -KT_ALREADY_EXISTS || !upserts(commit, fault))
            break;
    }
    return rc;
}

/* One commit by itself. */
static void run_alone(struct mg_engine *e, mongoc_client_t **client, const char *db,
                      struct kt_commit *commit) {
    struct kt_error err;
    struct mg_fault fault;
    int rc;
    while ((rc = try_alone(e, *client, db, commit, &fault, &err)) != 0 && mg_renew(e, client, &err))
        ;
    if (rc != 0)
        failed(commit, no_code(&err), &err, &fault);
}

/* Schema comes in commits of its own, outside of transactions. */
static bool is_schema(const struct kt_commit *commit) {
    return commit->writes[0].kind == KT_ENSURE_INDEX ||
           commit->writes[0].kind == KT_ENSURE_COLLECTION;
}

static void run_schema(struct mg_engine *e, mongoc_client_t **client, const char *db,
                       struct kt_commit *commit) {
    struct kt_error err;
    struct mg_fault fault = {0};
    int rc = 0;
    for (int i = 0; rc == 0 && i < commit->count; i++) {
        fault.ref = (struct mg_ref){commit, i};
        do
            rc = mg_ensure(e, *client, db, &commit->writes[i], &fault.number, &err);
        while (rc != 0 && mg_renew(e, client, &err));
    }
    if (rc != 0)
        failed(commit, no_code(&err), &err, &fault);
}

static size_t size_of(const struct kt_commit *commit) {
    size_t n = 0;
    for (int i = 0; i < commit->count; i++)
        n += commit->writes[i].docs.len + 200;
    return n;
}

int mg_write(struct kt_engine *engine, const char *db, struct kt_commit *(*next)(void *),
             void *ud) {
    struct mg_engine *e = (struct mg_engine *)engine;
    struct kt_commit *ready[MG_BATCH], *commit;
    struct kt_error err;
    struct mg_fault fault;
    int n = 0, taken = 0;
    size_t bytes = 0;
    if ((commit = next(ud)) == NULL)
        return 0;
    mongoc_client_t *client = mg_get(e, db, &err);
    int rc = client != NULL ? mg_known(e, client, db, &err) : no_code(&err);
    if (client != NULL && rc != 0 && mg_renew(e, &client, &err))
        rc = mg_known(e, client, db, &err);
    do { /* all that wait by now */
        int one = rc;
        taken++;
        kt_commit_clear(commit);
        if (one == 0)
            one = check(commit, &err);
        if (one != 0) {
            commit->rc = one;
            commit->error = err;
        } else if (is_schema(commit))
            run_schema(e, &client, db, commit);
        else {
            ready[n++] = commit;
            bytes += size_of(commit);
        }
    } while (taken < MG_BATCH && bytes < BATCH_BYTES && (commit = next(ud)) != NULL);
    if (n == 1)
        run_alone(e, &client, db, ready[0]);
    else if (n > 1) {
        rc = run_txn(e, client, db, ready, n, SHARED, &fault, &err);
        for (int i = 0; rc != 0 && i < n; i++)
            /* What may have been made must not be made twice. */
            if (rc == -KT_OUTCOME_UNKNOWN)
                failed(ready[i], rc, &err, NULL);
            else
                run_alone(e, &client, db, ready[i]);
    }
    if (client != NULL) {
        mg_touch(e, db);
        mg_put(e, client);
    }
    return taken;
}
