/* KONTOR_PROJECT_USERS: a project's documents are read and written by clients that are logged in as
 * the user `kontor` of its database, who may read and write there and nothing anywhere else. So a
 * mistake of ours in choosing a database is refused by the server.
 *
 * The user's password comes from KONTOR_MASTER_KEY and the database's name and is kept nowhere.
 * Where the server does not know it (the option is new, the key is, somebody else changed the
 * user), the user of the URL makes it so, once, and the call goes on. A key that is only in
 * KONTOR_MASTER_KEY_OLD is tried before: while one replica after the other gets a new key, all go
 * on with the password of the old one.
 *
 * These clients are no pool of the driver's, which knows one user: each has its own view of the
 * servers, without threads, and a connection to each member of the set. They are kept for the next
 * call about the same project, the least recently used gives way. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "store/mongo.h"

#define USER "kontor"
#define ROLE "readWrite"
#define UNAUTHORIZED 13
#define USER_EXISTS 51003
/* They look at all members as often as this; that the primary is another one shows at once. */
#define LOOK_MS 600000

/* ---- the user ---- */

static int password(const struct mg_engine *e, int key, const char *db, char text[65],
                    struct kt_error *err) {
    char what[KT_NAME_MAX + 32];
    snprintf(what, sizeof what, "project user of %s", db);
    return kt_seal_password(&e->ring.keys[key], what, text, err);
}

static int may_not(const struct mg_engine *e, const char *what, const char *db,
                   struct kt_error *err) {
    const char *name = mongoc_uri_get_username(e->uri);
    return kt_fail(
        err, KT_INTERNAL,
        "MONGODB_URL: the user %s may not %s users of %s, which KONTOR_PROJECT_USERS wants "
        "(roles readWriteAnyDatabase, dbAdminAnyDatabase, userAdminAnyDatabase)",
        name != NULL ? name : "of the certificate", what, db);
}

/* createUser or updateUser; the server's error `fine` is *number. */
static int set_user(struct mg_engine *e, mongoc_client_t *client, const char *verb, const char *db,
                    int fine, int *number, struct kt_error *err) {
    char text[65];
    bson_t opts = BSON_INITIALIZER, reply;
    bson_error_t error;
    int rc = password(e, 0, db, text, err);
    *number = 0;
    if (rc != 0)
        return rc;
    bson_t *command = BCON_NEW(verb, BCON_UTF8(USER), "pwd", BCON_UTF8(text), "roles", "[", "{",
                               "role", BCON_UTF8(ROLE), "db", BCON_UTF8(db), "}", "]", "mechanisms",
                               "[", BCON_UTF8("SCRAM-SHA-256"), "]");
    mongoc_write_concern_append(e->concern, &opts);
    if (!mongoc_client_write_command_with_opts(client, db, command, &opts, &reply, &error)) {
        *number = error.domain == MONGOC_ERROR_SERVER ? (int)error.code : 0;
        if (*number == UNAUTHORIZED)
            rc = may_not(e, *verb == 'c' ? "make" : "change", db, err);
        else if (*number == 0 || *number != fine)
            rc = mg_fail(&error, &reply, true, err);
    }
    OPENSSL_cleanse(text, sizeof text);
    OPENSSL_cleanse((void *)bson_get_data(command), command->len);
    bson_destroy(command);
    bson_destroy(&opts);
    bson_destroy(&reply);
    return rc;
}

int mg_user_make(struct mg_engine *e, mongoc_client_t *client, const char *db,
                 struct kt_error *err) {
    int number, rc = set_user(e, client, "createUser", db, USER_EXISTS, &number, err);
    if (rc == 0 && number == USER_EXISTS)
        rc = set_user(e, client, "updateUser", db, 0, &number, err);
    return rc;
}

int mg_users_drop(struct mg_engine *e, mongoc_client_t *client, const char *db,
                  struct kt_error *err) {
    bson_t opts = BSON_INITIALIZER, drop = BSON_INITIALIZER, reply;
    bson_error_t error;
    int rc = 0;
    BSON_APPEND_INT32(&drop, "dropAllUsersFromDatabase", 1);
    mongoc_write_concern_append(e->concern, &opts);
    if (!mongoc_client_write_command_with_opts(client, db, &drop, &opts, &reply, &error))
        rc = error.domain == MONGOC_ERROR_SERVER && error.code == UNAUTHORIZED
                 ? may_not(e, "remove", db, err)
                 : mg_fail(&error, &reply, true, err);
    bson_destroy(&reply);
    bson_destroy(&drop);
    bson_destroy(&opts);
    return rc;
}

/* The user as it should be, of a database that is there. */
static int mend(struct mg_engine *e, const char *db, struct kt_error *err) {
    bool there;
    mongoc_client_t *client = mg_get(e, NULL, err);
    if (client == NULL)
        return -(int)err->code;
    int rc = mg_ask(client, db, &there, err);
    if (rc == 0 && !there) {
        mg_forget(e, db);
        rc = kt_fail(err, KT_NOT_FOUND, "no database %s", db);
    }
    if (rc == 0 && (rc = mg_user_make(e, client, db, err)) == 0)
        kt_log(KT_INFO, "mongodb.user", "db", db, "msg", "made with the password of this key",
               NULL);
    if (rc != 0 && rc != -KT_NOT_FOUND)
        kt_log(KT_ERROR, "mongodb.user", "db", db, "msg", err->message, NULL);
    mg_put(e, client);
    return rc;
}

/* ---- logging in ---- */

static void on_failed(const mongoc_apm_command_failed_t *event) {
    struct mg_user *u = mongoc_apm_command_failed_get_context(event);
    bson_error_t error;
    mongoc_apm_command_failed_get_error(event, &error);
    if (error.domain != MONGOC_ERROR_SERVER || error.code != UNAUTHORIZED)
        u->failed = true;
    else if (!u->failed)
        u->refused = true;
}

/* Logged in with the password of a key, or NULL and why not. */
static mongoc_client_t *log_in(struct mg_engine *e, struct mg_user *u, int key,
                               bson_error_t *error) {
    char text[65];
    struct kt_error err;
    bson_t none = BSON_INITIALIZER, ping = BSON_INITIALIZER;
    if (password(e, key, u->db, text, &err) != 0) {
        bson_set_error(error, MONGOC_ERROR_CLIENT, 0, "%s", err.message);
        return NULL;
    }
    mongoc_uri_t *uri = mongoc_uri_copy(e->uri);
    mongoc_uri_set_username(uri, USER);
    mongoc_uri_set_password(uri, text);
    mongoc_uri_set_auth_source(uri, u->db);
    mongoc_uri_set_mechanism_properties(uri, &none);
    mongoc_uri_set_auth_mechanism(uri, "SCRAM-SHA-256");
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_SERVERSELECTIONTRYONCE, false);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_HEARTBEATFREQUENCYMS, LOOK_MS);
    OPENSSL_cleanse(text, sizeof text);
    mongoc_client_t *client = mongoc_client_new_from_uri_with_error(uri, error);
    mongoc_uri_destroy(uri);
    if (client == NULL)
        return NULL;
    mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    mongoc_apm_callbacks_t *callbacks = mongoc_apm_callbacks_new();
    mongoc_apm_set_command_failed_cb(callbacks, on_failed);
    mongoc_client_set_apm_callbacks(client, callbacks, u);
    mongoc_apm_callbacks_destroy(callbacks);
    BSON_APPEND_INT32(&ping, "ping", 1); /* it connects with the first command */
    if (!mongoc_client_command_simple(client, u->db, &ping, NULL, NULL, error)) {
        mongoc_client_destroy(client);
        client = NULL;
    }
    bson_destroy(&ping);
    return client;
}

static bool is_unknown(const bson_error_t *error) {
    return error->domain == MONGOC_ERROR_CLIENT && error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE;
}

static mongoc_client_t *make_client(struct mg_engine *e, struct mg_user *u, struct kt_error *err) {
    bson_error_t error;
    mongoc_client_t *client = log_in(e, u, 0, &error);
    for (int key = 1; client == NULL && is_unknown(&error) && key < e->ring.count; key++)
        client = log_in(e, u, key, &error);
    if (client == NULL && is_unknown(&error)) {
        if (mend(e, u->db, err) != 0)
            return NULL;
        client = log_in(e, u, 0, &error);
    }
    if (client == NULL)
        mg_fail(&error, NULL, false, err);
    return client;
}

/* ---- keeping clients ---- */

/* A place of the project's with its client, else an empty one, else the place that was used longest
 * ago. NULL: threads have all of them. */
static struct mg_user *take(struct mg_engine *e, const char *db) {
    struct mg_user *best = NULL;
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < MG_PROJECT_CLIENTS; i++) {
        struct mg_user *u = &e->users[i];
        if (u->busy)
            continue;
        if (u->client != NULL && strcmp(u->db, db) == 0) {
            best = u;
            break;
        }
        if (best == NULL ||
            (best->client != NULL && (u->client == NULL || u->used_ns < best->used_ns)))
            best = u;
    }
    if (best != NULL)
        best->busy = true;
    pthread_mutex_unlock(&e->lock);
    return best;
}

/* Another client into a place that is ours; busy: it stays so. */
static void settle(struct mg_engine *e, struct mg_user *u, mongoc_client_t *client, bool busy) {
    pthread_mutex_lock(&e->lock);
    mongoc_client_t *old = u->client;
    u->client = client;
    u->busy = busy;
    pthread_mutex_unlock(&e->lock);
    if (old != NULL && old != client)
        mongoc_client_destroy(old);
}

mongoc_client_t *mg_user_get(struct mg_engine *e, const char *db, struct kt_error *err) {
    struct mg_user *u = take(e, db);
    if (u == NULL) {
        kt_fail(err, KT_OVERLOADED, "no free connection to MongoDB");
        return NULL;
    }
    u->renewed = u->refused = u->failed = false;
    if (u->client != NULL && strcmp(u->db, db) == 0)
        return u->client;
    settle(e, u, NULL, true);
    snprintf(u->db, sizeof u->db, "%s", db);
    mongoc_client_t *client = make_client(e, u, err);
    settle(e, u, client, client != NULL);
    return client;
}

static struct mg_user *find(struct mg_engine *e, const mongoc_client_t *client) {
    for (int i = 0; i < MG_PROJECT_CLIENTS; i++)
        if (e->users[i].busy && e->users[i].client == client)
            return &e->users[i];
    return NULL;
}

bool mg_user_put(struct mg_engine *e, mongoc_client_t *client) {
    if (e->users == NULL)
        return false;
    pthread_mutex_lock(&e->lock);
    struct mg_user *u = find(e, client);
    if (u != NULL) {
        u->used_ns = kt_now_ns();
        u->busy = false;
    }
    pthread_mutex_unlock(&e->lock);
    return u != NULL;
}

bool mg_renew(struct mg_engine *e, mongoc_client_t **client, struct kt_error *err) {
    bson_error_t error;
    if (e->users == NULL)
        return false;
    pthread_mutex_lock(&e->lock);
    struct mg_user *u = find(e, *client);
    pthread_mutex_unlock(&e->lock);
    if (u == NULL || u->renewed || !u->refused)
        return false;
    u->renewed = true;
    if (mend(e, u->db, err) != 0)
        return false;
    mongoc_client_t *fresh = log_in(e, u, 0, &error);
    if (fresh == NULL) {
        mg_fail(&error, NULL, false, err);
        return false;
    }
    settle(e, u, fresh, true);
    *client = fresh;
    return true;
}

/* Those that nobody used for a while. */
void mg_users_tidy(struct mg_engine *e) {
    int64_t before = kt_now_ns() - MG_IDLE_NS;
    for (int i = 0; e->users != NULL && i < MG_PROJECT_CLIENTS; i++) {
        struct mg_user *u = &e->users[i];
        pthread_mutex_lock(&e->lock);
        bool idle = !u->busy && u->client != NULL && u->used_ns < before;
        u->busy = u->busy || idle;
        pthread_mutex_unlock(&e->lock);
        if (idle)
            settle(e, u, NULL, false);
    }
}

/* ---- start and end ---- */

/* The user of the URL may make users: asked for one without a password, which no server makes, a
 * server says first whether this user may ask. */
static int check_right(struct mg_engine *e, mongoc_client_t *client, struct kt_error *err) {
    static const char db[] = "kontor"; /* as good as any: those to come have no names yet */
    bson_error_t error;
    bson_t *command = BCON_NEW("createUser", BCON_UTF8(USER), "roles", "[", "{", "role",
                               BCON_UTF8(ROLE), "db", BCON_UTF8(db), "}", "]");
    bool made = mongoc_client_write_command_with_opts(client, db, command, NULL, NULL, &error);
    bson_destroy(command);
    if (made)
        return 0;
    if (error.domain != MONGOC_ERROR_SERVER)
        return mg_fail(&error, NULL, false, err);
    return error.code == UNAUTHORIZED ? may_not(e, "make", "any database", err) : 0;
}

/* The server asks who is there. */
static int check_guard(struct mg_engine *e, mongoc_client_t *client, struct kt_error *err) {
    bson_error_t error;
    bson_t list = BSON_INITIALIZER;
    mongoc_server_description_t *server = mongoc_client_select_server(client, true, NULL, &error);
    if (server == NULL)
        return mg_fail(&error, NULL, false, err);
    const char *host = mongoc_server_description_host(server)->host_and_port;
    mongoc_client_t *nobody = mg_nobody(e->uri, host);
    BSON_APPEND_INT32(&list, "listCollections", 1);
    int rc = 0;
    if (nobody != NULL &&
        mongoc_client_command_simple(nobody, e->main_db, &list, NULL, NULL, &error))
        rc = kt_fail(
            err, KT_STORE_UNAVAILABLE,
            "MONGODB_URL: %s serves whoever comes (it is to be started with access control, "
            "and a user in the URL): KONTOR_PROJECT_USERS would keep nobody out",
            host);
    bson_destroy(&list);
    if (nobody != NULL)
        mongoc_client_destroy(nobody);
    mongoc_server_description_destroy(server);
    return rc;
}

int mg_users_start(struct mg_engine *e, const struct kt_store_config *config,
                   struct kt_error *err) {
    int rc = kt_keyring_load(config->dir, false, &e->ring, err);
    if (rc == 0 && !e->ring.from_env)
        rc = kt_fail(
            err, KT_INVALID_ARGUMENT,
            "KONTOR_PROJECT_USERS is set, but KONTOR_MASTER_KEY, from which the passwords of "
            "these users come, is not");
    mongoc_client_t *client = rc == 0 ? mg_get(e, NULL, err) : NULL;
    if (client == NULL)
        return -(int)err->code;
    rc = check_guard(e, client, err);
    if (rc == 0)
        rc = check_right(e, client, err);
    mg_put(e, client);
    if (rc == 0 && (e->users = calloc(MG_PROJECT_CLIENTS, sizeof *e->users)) == NULL)
        rc = kt_fail(err, KT_NO_MEMORY, "store");
    return rc;
}

void mg_users_stop(struct mg_engine *e) {
    for (int i = 0; e->users != NULL && i < MG_PROJECT_CLIENTS; i++)
        if (e->users[i].client != NULL)
            mongoc_client_destroy(e->users[i].client);
    free(e->users);
    e->users = NULL;
    kt_keyring_wipe(&e->ring);
}
