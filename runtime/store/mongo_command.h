/* Write commands: statements of one collection and verb, gathered from one commit or from several,
 * sent as one command. */
#pragma once

#include "store/mongo.h"

enum mg_verb { MG_INSERT, MG_UPDATE, MG_DELETE };

struct mg_ref {
    struct kt_commit *commit;
    int write;
};

struct mg_command {
    const char *coll; /* NULL: nothing gathered */
    enum mg_verb verb;
    bson_t statements;   /* an array */
    struct mg_ref *refs; /* whose statement each is */
    int count;
};

/* What went wrong, beside the error: where, and whether trying again may help. */
struct mg_fault {
    struct mg_ref ref;
    int number; /* the server's code, or 0 */
    char key[KT_NAME_MAX + 1];
    bool transient; /* the transaction is undone; another one may pass */
    bool uncounted; /* the answer does not say which of the statements matched nothing */
};

void mg_command_start(struct mg_command *m, const struct kt_write *w);
void mg_command_free(struct mg_command *m); /* leaves it empty */
/* The next document of an insert's docs: *doc points into them, *at moves behind it. */
int mg_doc_at(const struct kt_buf *docs, size_t *at, bson_t *doc, struct kt_error *err);
int mg_command_add_doc(struct mg_command *m, struct kt_commit *commit, int write, const bson_t *doc,
                       struct kt_error *err);
int mg_command_add(struct mg_command *m, struct kt_commit *commit, int write, struct kt_error *err);
/* Send it, and fill the results of the writes it is made of. `opts`: session or write concern. */
int mg_command_run(struct mg_command *m, mongoc_client_t *client, const char *db,
                   const bson_t *opts, int64_t ms, struct mg_fault *fault, struct kt_error *err);
/* A commit of one write of one document, outside of a transaction. */
int mg_write_alone(struct mg_engine *e, mongoc_client_t *client, const char *db,
                   struct kt_commit *commit, struct mg_fault *fault, struct kt_error *err);
/* A write that is sorted or wants its document back. */
int mg_find_and_modify(struct kt_commit *commit, int write, mongoc_client_t *client, const char *db,
                       const bson_t *opts, int64_t ms, struct mg_fault *fault,
                       struct kt_error *err);
