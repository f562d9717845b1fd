/* The table of configuration variables: a variable is here when it works. `.env.example` lists the
 * same ones and tests/integration/test_config.py shows the effect of each. */
#include <string.h>

#include "core/config.h"
#include "core/egress.h"
#include "core/keyring.h"
#include "core/log.h"

static const char *check_level(const char *text) {
    return kt_log_level_of(text) >= 0 ? NULL : "is not one of debug, info, warn, error";
}

/* Names of databases are file names, and prefix + project id (at most 48) stays below 64 bytes. */
static const char *check_name(const char *text) {
    if (strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_") != strlen(text))
        return "has other characters than a-z, 0-9, - and _";
    if (*text == '-')
        return "begins with -";
    return strlen(text) <= 48 ? NULL : "is longer than 48 bytes";
}

static const char *check_prefix(const char *text) {
    const char *fault = check_name(text);
    if (fault != NULL)
        return fault;
    return strlen(text) <= 15 ? NULL : "is longer than 15 bytes";
}

static const char *check_project_id(const char *text) {
    size_t n = strlen(text);
    if (n > 48 || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != n || text[0] == '-' ||
        (n > 0 && text[n - 1] == '-'))
        return "is not 1 to 48 of a-z, 0-9 and -, with a letter or digit at both ends";
    return NULL;
}

static const char *check_hosts(const char *text) {
    return strpbrk(text, " \t/@\"'") == NULL ? NULL : "is not a list of host names joined by commas";
}

static const char *check_key(const char *text) {
    const char *fault = kt_keyring_fault(text);
    if (fault == NULL && text[strcspn(text, ", \t")] != '\0')
        return "is more than one key: those of before are for KONTOR_MASTER_KEY_OLD";
    return fault;
}

static const char *check_mongodb_url(const char *text) {
    bool ok = *text == '\0' || strncmp(text, "mongodb://", 10) == 0 ||
              strncmp(text, "mongodb+srv://", 14) == 0;
    return ok ? NULL : "does not begin with mongodb:// or mongodb+srv://";
}

const struct kt_config_var kt_config_vars[] = {
    {"KONTOR_LISTEN", KT_CONFIG_ADDRESS, "127.0.0.1:8000", 0, 0, NULL,
     "Address and port to serve on. Anything but a loopback address needs a key (kontor key create), "
     "or KONTOR_DEV=1."},
    {"KONTOR_DATA_DIR", KT_CONFIG_FOLDER, "./data", 0, 0, NULL,
     "Folder of the embedded store, the admin socket and the caches. One service at a time."},
    {"KONTOR_WORKERS", KT_CONFIG_INT, "1", 1, 64, NULL,
     "Worker processes. One is right for the embedded store."},
    {"KONTOR_DRAIN_SECONDS", KT_CONFIG_INT, "25", 0, 3600, NULL,
     "Seconds that requests and runs get to end on TERM and HUP."},
    {"KONTOR_LOG_LEVEL", KT_CONFIG_TEXT, "info", 0, 0, check_level,
     "Lowest level that is logged: debug, info, warn, error."},
    {"KONTOR_LOG_DIR", KT_CONFIG_FOLDER, "./logs", 0, 0, NULL,
     "Folder of app.log and executions.log; USR1 reopens them."},
    {"KONTOR_DEV", KT_CONFIG_BOOL, "0", 0, 0, NULL,
     "Development: files under agents/ are watched and win over master data; without keys every "
     "request is served as admin at any address. Refused when there is a key."},
    {"KONTOR_HOSTS", KT_CONFIG_TEXT, "", 0, 0, check_hosts,
     "More host names to answer for, joined by commas, beside the loopback names."},
    {"KONTOR_HOME", KT_CONFIG_FOLDER, "", 0, 0, NULL,
     "Folder that holds lua/, agents/ and migrations/; found beside the program when unset."},
    {"KONTOR_EGRESS_ALLOW", KT_CONFIG_TEXT, "", 0, 0, kt_egress_fault,
     "Where tools may go beside public addresses: host, host:port, address or network, joined by "
     "commas."},
    {"KONTOR_MASTER_KEY", KT_CONFIG_SECRET, "", 0, 0, check_key,
     "Key that secrets are sealed under: 32 bytes in base64 or hex, as openssl rand -base64 32 makes. "
     "The embedded store makes master.key in its folder when unset."},
    {"KONTOR_MASTER_KEY_OLD", KT_CONFIG_SECRET, "", 0, 0, kt_keyring_fault,
     "Further keys, joined by commas, that secrets are opened with until kontor secret rotate has "
     "sealed them anew."},
    {"MONGODB_URL", KT_CONFIG_SECRET, "", 0, 0, check_mongodb_url,
     "Server of the documents: mongodb://[user:password@]host[:port],…/?replicaSet=…; a replica set, one "
     "node is enough. The embedded store when unset."},
    {"KONTOR_BACKUP_DIR", KT_CONFIG_FOLDER, "", 0, 0, NULL,
     "Folder of the projects' backups, shared by all hosts that serve; backups in KONTOR_DATA_DIR when "
     "unset."},
    {"KONTOR_IMPORT_MAX_BYTES", KT_CONFIG_INT, "68719476736", 1, 1LL << 52, NULL,
     "Greatest project that is imported over HTTP: bytes of the tar, and of the files in it."},
    {"MASTER_DATABASE_NAME", KT_CONFIG_TEXT, "ktern-masterdb", 0, 0, check_name,
     "Name of the master database."},
    {"PROJECT_DATABASE_PREFIX", KT_CONFIG_TEXT, "ktern-project-", 0, 0, check_prefix,
     "What stands before a project's id in the name of its database."},
    {"KONTOR_PROJECT_USERS", KT_CONFIG_BOOL, "0", 0, 0, NULL,
     "With MONGODB_URL: every project is read and written as a database user of its own, who may "
     "nothing elsewhere; the user of the URL makes these users. Needs KONTOR_MASTER_KEY."},
    {"ENABLE_MULTI_TENANT", KT_CONFIG_BOOL, "1", 0, 0, NULL,
     "0: only the project DEFAULT_PROJECT_ID exists, every other one is not found."},
    {"DEFAULT_PROJECT_ID", KT_CONFIG_TEXT, "default", 0, 0, check_project_id,
     "Project that is made at the first start."},
    {"ERP_REPORTS_DIRECTORY", KT_CONFIG_FOLDER, "", 0, 0, NULL,
     "Folder that gets a copy of every report as PROJECT/EXECUTION.json; none when unset."},
};

const int kt_config_count = sizeof kt_config_vars / sizeof kt_config_vars[0];
