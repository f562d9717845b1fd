/* The connection to MongoDB: its URL, the pool of clients, and whether a server is there. */
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/log.h"
#include "store/mongo.h"

#define THREADS 4       /* readers, and writers, when the configuration names no number */
#define OTHER_CLIENTS 4 /* two slow threads, the watcher, the loop's own at start */
#define SELECT_MS 3000  /* to find a server */
#define SOCKET_MS 20000 /* above MG_MAX_TIME_MS: the server gives up first */
#define WIRE_4_4 9
/* A server that is away longer than this is not waited for: calls fail at once. */
#define AWAY_NS 2000000000LL

/* ---- URL ---- */

/* Options that say something else than what the engine relies on, and the one value it takes. */
static const struct {
    const char *name, *value;
} fixed[] = {{"w", "majority"},
             {"journal", "true"},
             {"readconcernlevel", "majority"},
             {"readpreference", "primary"},
             {"retrywrites", "true"},
             {"retryreads", "true"}};

static const char *const passed[] = {"appname",
                                     "authmechanism",
                                     "authmechanismproperties",
                                     "authsource",
                                     "compressors",
                                     "connecttimeoutms",
                                     "directconnection",
                                     "heartbeatfrequencyms",
                                     "loadbalanced",
                                     "localthresholdms",
                                     "replicaset",
                                     "serverselectiontimeoutms",
                                     "sockettimeoutms",
                                     "srvmaxhosts",
                                     "srvservicename",
                                     "ssl",
                                     "tls",
                                     "tlscafile",
                                     "tlscertificatekeyfile",
                                     "tlscertificatekeyfilepassword",
                                     "tlsdisablecertificaterevocationcheck",
                                     "tlsdisableocspendpointcheck",
                                     "wtimeoutms",
                                     "zlibcompressionlevel"};

static const char *option_fault(const char *name, size_t n, const char *value, size_t m, char *text,
                                size_t size) {
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (strlen(fixed[i].name) == n && strncasecmp(fixed[i].name, name, n) == 0) {
            if (strlen(fixed[i].value) == m && strncasecmp(fixed[i].value, value, m) == 0)
                return NULL;
            snprintf(text, size, "has %s other than %s", fixed[i].name, fixed[i].value);
            return text;
        }
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        if (strlen(passed[i]) == n && strncasecmp(passed[i], name, n) == 0)
            return m > 0 ? NULL : (snprintf(text, size, "has %s without a value", passed[i]), text);
    bool plain = n > 0 && n < 50; /* a mistake in the URL may have put the password here */
    for (size_t i = 0; plain && i < n; i++)
        plain = isalpha((unsigned char)name[i]);
    if (plain)
        snprintf(text, size, "has an option that is not supported: %.*s", (int)n, name);
    else
        snprintf(text, size, "has an option that is not supported");
    return text;
}

const char *kt_mongo_url_fault(const char *url, char *text, size_t size) {
    bson_error_t error;
    const char *options = strchr(url, '?');
    if (strncmp(url, "mongodb://", 10) != 0 && strncmp(url, "mongodb+srv://", 14) != 0)
        return "does not begin with mongodb:// or mongodb+srv://";
    while (options != NULL && options[1] != '\0') {
        const char *name = options + 1, *end = name + strcspn(name, "&"), *eq = name;
        while (eq < end && *eq != '=')
            eq++;
        const char *value = eq < end ? eq + 1 : end;
        const char *fault =
            option_fault(name, (size_t)(eq - name), value, (size_t)(end - value), text, size);
        if (fault != NULL)
            return fault;
        options = *end == '&' ? end : NULL;
    }
    mongoc_uri_t *uri = mongoc_uri_new_with_error(url, &error);
    if (uri == NULL) {
        /* The driver's text may quote what it could not read, and that may be the password. */
        return "is not a MongoDB connection string (reserved characters in user and password are "
               "written as %XX)";
    }
    const char *fault = NULL;
    if (mongoc_uri_get_database(uri) != NULL)
        fault = "names a database: the names come from MASTER_DATABASE_NAME and "
                "PROJECT_DATABASE_PREFIX (where the user is kept is said by ?authSource=)";
    mongoc_uri_destroy(uri);
    return fault;
}

static void set_default(mongoc_uri_t *uri, const char *option, int32_t value) {
    if (!mongoc_uri_has_option(uri, option))
        mongoc_uri_set_option_as_int32(uri, option, value);
}

static mongoc_uri_t *parse(const char *url, int clients, struct kt_error *err) {
    char text[200];
    const char *fault = kt_mongo_url_fault(url, text, sizeof text);
    mongoc_uri_t *uri = fault == NULL ? mongoc_uri_new_with_error(url, NULL) : NULL;
    if (uri == NULL) {
        kt_fail(err, KT_INVALID_ARGUMENT, "MONGODB_URL %s", fault ? fault : "cannot be read");
        return NULL;
    }
    mongoc_uri_set_appname(uri, "kontor");
    set_default(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SELECT_MS);
    set_default(uri, MONGOC_URI_CONNECTTIMEOUTMS, SELECT_MS);
    set_default(uri, MONGOC_URI_SOCKETTIMEOUTMS, SOCKET_MS);
    set_default(uri, MONGOC_URI_WTIMEOUTMS, 5000);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_MAXPOOLSIZE, clients);
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYWRITES, true);
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYREADS, true);
    mongoc_read_concern_t *majority = mongoc_read_concern_new();
    mongoc_read_concern_set_level(majority, MONGOC_READ_CONCERN_LEVEL_MAJORITY);
    mongoc_uri_set_read_concern(uri, majority);
    mongoc_read_concern_destroy(majority);
    return uri;
}

/* ---- what the driver tells ---- */

static void on_log(mongoc_log_level_t level, const char *domain, const char *message, void *ud) {
    (void)ud;
    if (strncmp(message, "Error in abortTransaction", 25) == 0)
        return; /* of one that the server has undone already */
    if (level <= MONGOC_LOG_LEVEL_WARNING)
        kt_log(KT_WARN, "mongodb.driver", "msg", message, "domain", domain, NULL);
}

/* On the driver's threads: is there a server that takes writes? */
static void on_topology(const mongoc_apm_topology_changed_t *event) {
    struct mg_engine *e = mongoc_apm_topology_changed_get_context(event);
    /* The functions that ask want it not const, and change nothing. */
    mongoc_topology_description_t *now =
        (mongoc_topology_description_t *)mongoc_apm_topology_changed_get_new_description(event);
    bool there = mongoc_topology_description_has_writable_server(now);
    int64_t since = atomic_load(&e->away_ns);
    if (there == (since == 0))
        return;
    atomic_store(&e->away_ns, there ? 0 : kt_now_ns());
    if (!there && e->seen)
        kt_log(KT_WARN, "mongodb.away", "msg", "no server that can be written to", NULL);
    else if (there && e->seen)
        kt_log(KT_INFO, "mongodb.back", "msg", "a server can be written to", NULL);
    e->seen = e->seen || there;
}

/* ---- clients ---- */

mongoc_client_t *mg_get(struct mg_engine *e, const char *db, struct kt_error *err) {
    int64_t away = atomic_load(&e->away_ns);
    if (away != 0 && kt_now_ns() - away > AWAY_NS) {
        kt_fail(err, KT_STORE_UNAVAILABLE, "no MongoDB server can be written to");
        return NULL;
    }
    bool users = e->users != NULL && db != NULL && strcmp(db, e->main_db) != 0;
    mongoc_client_t *client = users ? mg_user_get(e, db, err) : mongoc_client_pool_try_pop(e->pool);
    if (client != NULL)
        atomic_fetch_add(&e->in_use, 1);
    else if (!users) /* more threads than clients: a mistake of ours */
        kt_fail(err, KT_OVERLOADED, "no free connection to MongoDB");
    return client;
}

void mg_put(struct mg_engine *e, mongoc_client_t *client) {
    atomic_fetch_sub(&e->in_use, 1);
    if (!mg_user_put(e, client))
        mongoc_client_pool_push(e->pool, client);
}

int64_t mg_time(const struct kt_limit *limit) {
    int64_t ms = MG_MAX_TIME_MS;
    if (limit != NULL && limit->until_ns != 0) {
        int64_t left = (limit->until_ns - kt_now_ns()) / 1000000 + 1;
        ms = left < 1 ? 1 : left < ms ? left : ms;
    }
    return ms;
}

/* ---- opening ---- */

static const char *hosts_of(const mongoc_uri_t *uri, char *text, size_t size) {
    size_t n = 0;
    text[0] = '\0';
    for (const mongoc_host_list_t *h = mongoc_uri_get_hosts(uri); h != NULL && n < size - 1;
         h = h->next)
        n += (size_t)snprintf(text + n, size - n, "%s%s", n ? "," : "", h->host_and_port);
    return text;
}

mongoc_client_t *mg_nobody(const mongoc_uri_t *uri, const char *host_and_port) {
    char text[400];
    /* The options that say which server it must be are left out, and so is the user. */
    snprintf(text, sizeof text, "mongodb://%s/?directConnection=true", host_and_port);
    mongoc_uri_t *plain = mongoc_uri_new_with_error(text, NULL);
    if (plain == NULL)
        return NULL;
    mongoc_uri_set_option_as_int32(plain, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, 1000);
    mongoc_uri_set_option_as_int32(plain, MONGOC_URI_CONNECTTIMEOUTMS, 1000);
    if (mongoc_uri_get_tls(uri)) {
        static const char *const files[] = {MONGOC_URI_TLSCAFILE, MONGOC_URI_TLSCERTIFICATEKEYFILE,
                                            MONGOC_URI_TLSCERTIFICATEKEYFILEPASSWORD};
        mongoc_uri_set_option_as_bool(plain, MONGOC_URI_TLS, true);
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            const char *v = mongoc_uri_get_option_as_utf8(uri, files[i], NULL);
            if (v != NULL)
                mongoc_uri_set_option_as_utf8(plain, files[i], v);
        }
    }
    mongoc_client_t *client = mongoc_client_new_from_uri(plain);
    mongoc_uri_destroy(plain);
    return client;
}

/* Say hello to one server without asking for its set. */
static bool direct_hello(const mongoc_uri_t *uri, bson_t *reply) {
    bson_error_t error;
    bool ok = false;
    const mongoc_host_list_t *host = mongoc_uri_get_hosts(uri);
    mongoc_client_t *client = mg_nobody(uri, host != NULL ? host->host_and_port : "");
    if (client != NULL) {
        bson_t hello = BSON_INITIALIZER;
        BSON_APPEND_INT32(&hello, "isMaster", 1);
        ok = mongoc_client_command_simple(client, "admin", &hello, NULL, reply, &error);
        bson_destroy(&hello);
        mongoc_client_destroy(client);
    }
    return ok;
}

/* Why no server was found: another set's name looks to the driver like no server at all. */
static int not_found(const mongoc_uri_t *uri, const bson_error_t *error, struct kt_error *err) {
    char hosts[300];
    bson_t reply;
    bson_iter_t it;
    const char *want = mongoc_uri_get_replica_set(uri);
    hosts_of(uri, hosts, sizeof hosts);
    if (want != NULL) {
        bool there = direct_hello(uri, &reply);
        const char *set =
            there && bson_iter_init_find(&it, &reply, "setName") && BSON_ITER_HOLDS_UTF8(&it)
                ? bson_iter_utf8(&it, NULL)
                : NULL;
        int rc = 0;
        if (there && set == NULL)
            rc = kt_fail(
                err, KT_STORE_UNAVAILABLE,
                "MONGODB_URL: %s is a member of no replica set, replicaSet=%s was asked for", hosts,
                want);
        else if (there && strcmp(set, want) != 0)
            rc = kt_fail(err, KT_STORE_UNAVAILABLE,
                         "MONGODB_URL: the replica set of %s is called %s, not %s", hosts, set,
                         want);
        bson_destroy(&reply);
        if (rc != 0)
            return rc;
    }
    return kt_fail(err, KT_STORE_UNAVAILABLE,
                   "MONGODB_URL: no server at %s can be written to: %.200s", hosts, error->message);
}

/* Is there a server, is it one that we can work with, and does it know our user? */
static int look(struct mg_engine *e, struct kt_error *err) {
    bson_t hello = BSON_INITIALIZER, probe = BSON_INITIALIZER, reply, answer;
    bson_error_t error;
    bson_iter_t it;
    char hosts[300];
    int rc = 0, wire = 0;
    mongoc_client_t *client = mg_get(e, NULL, err);
    if (client == NULL)
        return -(int)err->code;
    hosts_of(e->uri, hosts, sizeof hosts);
    BSON_APPEND_INT32(&hello, "isMaster", 1); /* "hello" is not known before 4.4.2 */
    if (!mongoc_client_command_simple(client, "admin", &hello, NULL, &reply, &error)) {
        if (error.domain == MONGOC_ERROR_CLIENT && error.code == MONGOC_ERROR_CLIENT_AUTHENTICATE)
            rc = kt_fail(err, KT_STORE_UNAVAILABLE,
                         "MONGODB_URL: %s refuses the user %s: wrong name, password or authSource",
                         hosts, mongoc_uri_get_username(e->uri));
        else if (error.code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION &&
                 (error.domain == MONGOC_ERROR_PROTOCOL ||
                  error.domain == MONGOC_ERROR_SERVER_SELECTION))
            rc = kt_fail(err, KT_STORE_UNAVAILABLE,
                         "MONGODB_URL: %s is older than MongoDB 4.4: %.200s", hosts, error.message);
        else
            rc = not_found(e->uri, &error, err);
    } else {
        bool mongos = bson_iter_init_find(&it, &reply, "msg") && BSON_ITER_HOLDS_UTF8(&it) &&
                      strcmp(bson_iter_utf8(&it, NULL), "isdbgrid") == 0;
        if (bson_iter_init_find(&it, &reply, "maxWireVersion"))
            wire = (int)bson_iter_as_int64(&it);
        if (wire < WIRE_4_4)
            rc =
                kt_fail(err, KT_STORE_UNAVAILABLE,
                        "MONGODB_URL: %s is older than MongoDB 4.4 (wire version %d)", hosts, wire);
        else if (!mongos && !bson_iter_init_find(&it, &reply, "setName"))
            rc = kt_fail(
                err, KT_STORE_UNAVAILABLE,
                "MONGODB_URL: %s is a standalone server, which has no transactions: start it with "
                "--replSet (one node is enough)",
                hosts);
    }
    if (rc == 0) { /* without a user a server with access control answers hello, and nothing else */
        BSON_APPEND_INT32(&probe, "listCollections", 1);
        BSON_APPEND_BOOL(&probe, "nameOnly", true);
        BSON_APPEND_BOOL(&probe, "authorizedCollections", true);
        if (!mongoc_client_command_simple(client, e->main_db, &probe, NULL, &answer, &error))
            rc = error.code == 13
                     ? kt_fail(err, KT_STORE_UNAVAILABLE,
                               "MONGODB_URL: %s wants a user, or this one may not read %s", hosts,
                               e->main_db)
                     : mg_fail(&error, &answer, false, err);
        bson_destroy(&answer);
    }
    bson_destroy(&reply);
    bson_destroy(&hello);
    bson_destroy(&probe);
    mg_put(e, client);
    return rc;
}

static void init_once(void) {
    mongoc_init();
    mongoc_log_set_handler(on_log, NULL);
    atexit(mongoc_cleanup);
}

static int or_else(int value, int fallback) {
    return value > 0 ? value : fallback;
}

static struct kt_engine *open_engine(const struct kt_store_config *config, struct kt_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    struct mg_engine *e = calloc(1, sizeof *e);
    if (e == NULL) {
        kt_fail(err, KT_NO_MEMORY, "store");
        return NULL;
    }
    e->base.class = &kt_engine_mongo;
    pthread_mutex_init(&e->lock, NULL);
    snprintf(e->main_db, sizeof e->main_db, "%s",
             config->main_db ? config->main_db : "ktern-masterdb");
    e->clients =
        or_else(config->readers, THREADS) + or_else(config->writers, THREADS) + OTHER_CLIENTS;
    e->uri = parse(config->url, e->clients, err);
    e->pool = e->uri != NULL ? mongoc_client_pool_new_with_error(e->uri, NULL) : NULL;
    if (e->pool == NULL) {
        if (e->uri != NULL)
            kt_fail(err, KT_INVALID_ARGUMENT, "MONGODB_URL: its options do not go together");
        mg_close(&e->base);
        return NULL;
    }
    mongoc_client_pool_set_error_api(e->pool, MONGOC_ERROR_API_VERSION_2);
    mongoc_apm_callbacks_t *callbacks = mongoc_apm_callbacks_new();
    mongoc_apm_set_topology_changed_cb(callbacks, on_topology);
    mongoc_client_pool_set_apm_callbacks(e->pool, callbacks, e);
    mongoc_apm_callbacks_destroy(callbacks);

    e->concern = mongoc_write_concern_new();
    mongoc_write_concern_set_w(e->concern, MONGOC_WRITE_CONCERN_W_MAJORITY);
    mongoc_write_concern_set_journal(e->concern, true);
    mongoc_write_concern_set_wtimeout_int64(
        e->concern, mongoc_uri_get_option_as_int32(e->uri, MONGOC_URI_WTIMEOUTMS, 5000));
    mongoc_read_concern_t *snapshot = mongoc_read_concern_new();
    mongoc_read_concern_set_level(snapshot, MONGOC_READ_CONCERN_LEVEL_SNAPSHOT);
    e->txn_opts = mongoc_transaction_opts_new();
    mongoc_transaction_opts_set_write_concern(e->txn_opts, e->concern);
    mongoc_transaction_opts_set_read_concern(e->txn_opts, snapshot);
    mongoc_transaction_opts_set_max_commit_time_ms(e->txn_opts, MG_MAX_TIME_MS);
    mongoc_read_concern_destroy(snapshot);
    if (look(e, err) != 0 || (config->project_users && mg_users_start(e, config, err) != 0) ||
        mg_watch_start(e, err) != 0) {
        mg_close(&e->base);
        return NULL;
    }
    return &e->base;
}

/* Threads that the driver and we start here take no signals: those are the loop's. */
struct kt_engine *mg_open(const struct kt_store_config *config, struct kt_error *err) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    struct kt_engine *engine = open_engine(config, err);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return engine;
}

void mg_close(struct kt_engine *engine) {
    struct mg_engine *e = (struct mg_engine *)engine;
    mg_watch_stop(e);
    if (e->txn_opts != NULL)
        mongoc_transaction_opts_destroy(e->txn_opts);
    if (e->concern != NULL)
        mongoc_write_concern_destroy(e->concern);
    mg_users_stop(e);
    if (e->pool != NULL)
        mongoc_client_pool_destroy(e->pool);
    if (e->uri != NULL)
        mongoc_uri_destroy(e->uri);
    mg_forget_all(e);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

const struct kt_engine_class kt_engine_mongo = {
    .name = "mongodb",
    .open = mg_open,
    .close = mg_close,
    .read = mg_read,
    .lookup = mg_lookup,
    .write = mg_write,
    .create = mg_create,
    .exists = mg_exists,
    .drop = mg_drop,
    .list = mg_list,
    .check = mg_check,
    .scan = mg_scan,
    .version = mg_version,
    .tidy = mg_tidy,
    .stats = mg_stats,
};
