/* settings_check.h: what a setting's type and range cannot say about its value. Named by rows of the table.
 *
 * Each returns true if the value will do, else false with what was expected in words.
 * runs in: the process that builds the server, before start(); may look at files and at the user database. */
#ifndef SV_SERVER_SETTINGS_CHECK_H
#define SV_SERVER_SETTINGS_CHECK_H

#include "server/settings_value.h"

bool sv_check_date_format(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_directory(const struct sv_setting_value *value, char *expected, size_t size);
/* Makes it, with those above it, if it is not there. */
bool sv_check_made_directory(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_task_way(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_user(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_group(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_cpus_left(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_networks(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_address_and_port(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_length_type(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_locations(const struct sv_setting_value *value, char *expected, size_t size);
/* TLS: what this build's library can do. */
bool sv_check_tls_versions(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_ciphers(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_curves(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_alpn(const struct sv_setting_value *value, char *expected, size_t size);
bool sv_check_never_masked(const struct sv_setting_value *value, char *expected, size_t size);

#endif
