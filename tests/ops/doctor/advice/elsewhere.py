"""Advice that other tests follow, and advice that no test can follow."""

ADVICE, DOCTOR, INDEXES, BACKUP = "ops/doctor/advice", "ops/doctor", "ops/indexes", "ops/backup"

# The test that produces the fault, follows the advice, and finds the check ok.
ELSEWHERE = {
    "audit._unsealed": f"{DOCTOR}/test_audit_seals.py::test_unsealed_events_are_a_warning",
    "autovacuum.autovacuum": f"{ADVICE}/test_server.py::test_setting_of_the_server_is_fixed",
    "backups.check_last_drill": f"{ADVICE}/test_commands.py::test_missing_drill_is_fixed",
    "backups.check_last_drill#2": f"{BACKUP}/test_checks.py::test_failed_drill_is_critical_until_the_next_good_one",
    "backups.check_unfinished_restores": f"{BACKUP}/test_incomplete_restores.py::"
    "test_killed_restore_is_refused_by_switch_and_found_by_the_doctor",
    "backups.check_files_of_backup": "files/test_backups.py::test_object_that_is_missing_does_not_break_the_backup",
    "backups._bad_backups#2": f"{BACKUP}/test_checks.py::test_drilled_backup_that_was_damaged_since_is_found",
    "backups._damaged_since": f"{BACKUP}/test_checks.py::test_drilled_backup_that_was_damaged_since_is_found",
    "backups._changed": f"{BACKUP}/test_checks.py::test_copied_backup_is_ok_after_a_verification",
    "backups._no_backup": f"{ADVICE}/test_commands.py::test_missing_backup_is_fixed",
    "bloat._unknown_finding": f"{INDEXES}/test_bloat.py::test_bloat_without_statistics_is_unknown",
    "bloat._unmeasured_finding": f"{INDEXES}/test_bloat.py::test_estimate_without_the_extension_is_unknown",
    "erasures.find_reappeared": f"{ADVICE}/test_commands.py::test_reappeared_user_is_erased_again",
    "erasures.find_unfinished": f"{ADVICE}/test_commands.py::test_unfinished_erasure_is_completed",
    "expected.index_findings": f"{ADVICE}/test_indexes.py::test_invalid_declared_index_is_fixed",
    "files.find_missing_objects": "files/test_purge.py::test_missing_object_is_found_by_the_doctor",
    "jobs._future_runs": f"{DOCTOR}/test_jobs.py::test_future_runs_are_reported_and_ignored",
    "mcp.reachable": f"{DOCTOR}/test_mcp.py::test_server_that_does_not_answer_is_reported_until_it_does",
    "mcp.tools_changed": f"{DOCTOR}/test_mcp.py::test_changed_tool_is_reported_until_it_is_allowed_again",
    "migrations._pending_finding": f"{ADVICE}/test_revisions.py::test_pending_migration_is_fixed",
    "privileges._not_owned": f"{ADVICE}/test_roles.py::test_tables_of_a_superuser_are_not_shared_by_membership",
    "privileges._without_usage": f"{ADVICE}/test_roles.py::test_schema_that_may_not_be_used_is_fixed",
    "privileges._missing": f"{DOCTOR}/test_connection.py::test_missing_write_privileges_are_listed",
    "privileges._hidden": f"{DOCTOR}/test_durability.py::test_row_level_security_is_critical",
    "provider_files.find_failed_copies": "files/provider_files/test_reconciliation.py::"
    "test_copy_that_stays_is_reported_until_it_is_deleted",
    "provider_files.find_failed_copies#2": "files/provider_files/test_failed_uploads.py::"
    "test_failures_end_as_failed_and_are_tried_again_after_a_day",
    "provider_files.find_orphaned_copies": "files/provider_files/test_reconciliation.py::"
    "test_copy_without_row_is_deleted_and_other_files_stay",
    "roles._findings": f"{DOCTOR}/test_server_settings.py::test_role_without_login_is_critical",
    "secrets._readable": f"{DOCTOR}/test_settings.py::test_world_readable_secrets_file_is_found",
    "sequences.sequences": f"{ADVICE}/test_roles.py::test_unreadable_sequence_is_fixed",
    "statistics.statistics": f"{ADVICE}/test_server.py::test_setting_of_the_server_is_fixed",
    "statistics.statistics#3": f"{INDEXES}/test_statistics.py::test_large_table_with_lost_counters_is_unknown",
    "transactions.idle": f"{ADVICE}/test_commands.py::test_idle_session_is_ended",
    "validity.index_findings": f"{INDEXES}/test_validity.py::test_copy_of_a_rebuild_is_dropped",
}

SETTING = "it is a setting of Parley's environment; test_settings.py finds the check ok with the other value"
SERVER = "it needs another server or another pooler"

# Actions outside of the database and of Parley's commands, and the reason why they are not run here.
NOT_RUN = {
    "backups.check_recent_backup": SETTING,
    "connection.version": SERVER,
    "encryption._check_connection": "it needs a public address",
    "encryption._check_connection#2": "it needs a public address",
    "jobs.broker": SERVER,
    "jobs.broker#2": SERVER,
    "pool.bounds": SETTING,
    "pooler.same_database": SERVER,
    "pooler.pooler": SERVER,
    "secrets.secrets": SETTING,
    "secrets.secrets#2": SETTING,
    "secrets._broker": SETTING,
    "secrets._password": SETTING,
    "settings._metrics_refused": SETTING,
    "settings._metrics_open_to_browsers": SETTING,
    "settings._running_turns_become_stale": SETTING,
    "settings._locks_never_time_out": SETTING,
    "settings._deadlines_out_of_order": SETTING,
    "settings._tokens_outlast_sessions": SETTING,
    "settings._previous_key_is_current": SETTING,
    "settings._history_too_small": SETTING,
    "settings._job_history_too_short": SETTING,
    "settings._provider_is_its_own_fallback": SETTING,
    "settings._demo_answers_users": SETTING,
    "settings._key_sent_in_plain_text": SETTING,
    "settings._locks_in_another_database": SETTING,
    "settings._key_limit_without_effect": SETTING,
    "settings._one_address_can_lock_a_user_out": SETTING,
    "settings._limits_per_process": SETTING,
    "settings._backups_sent_in_plain_text": SETTING,
}
