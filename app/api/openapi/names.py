"""Names in the description from which clients are generated: operation ids, and schemas of enumerations."""

from typing import Any

# Operation ids are a verb and an object in snake case. Views whose method and name do not give one:
OPERATION_IDS = {
    "archive": "archive_conversation",
    "delete_one_conversation": "delete_conversation",
    "delete_one_key": "delete_key",
    "delete_one_project": "delete_project",
    "delete_one_prompt": "delete_prompt",
    "complete": "complete_task",
    "delete_one_todo": "delete_task",
    "delete_one_session": "end_one_session",
    "delete_sessions": "end_other_sessions",
    "docs_file": "get_docs_file",
    "docs_page": "get_docs_page",
    "export_everything": "export_account",
    "get_conversations": "list_conversations",
    "get_export": "export_conversation",
    "get_keys": "list_keys",
    "get_one_conversation": "get_conversation",
    "get_one_project": "get_project",
    "get_one_prompt": "get_prompt",
    "get_one_todo": "get_task",
    "get_todos": "list_tasks",
    "content": "download_file",
    "delete_one_file": "delete_file",
    "get_files": "list_files",
    "get_one_file": "get_file",
    "get_project_files": "list_project_files",
    "get_projects": "list_projects",
    "post_files": "upload_file_form",
    "post_project_files": "upload_project_file_form",
    "put_files": "upload_file",
    "put_project_files": "upload_project_file",
    "get_sessions": "list_sessions",
    "get_prompts": "list_prompts",
    "publish": "publish_prompt",
    "restore": "restore_prompt_version",
    "version": "get_prompt_version",
    "versions": "list_prompt_versions",
    "login": "create_session",
    "post_turn_tool_approvals": "approve_tool_calls",
    "logout": "end_session",
    "me": "get_account",
    "messages": "list_messages",
    "messages_of_project": "list_project_messages",
    "models": "list_models",
    "openapi_document": "get_openapi_document",
    "patch_one_conversation": "update_conversation",
    "patch_one_project": "update_project",
    "patch_one_prompt": "update_prompt",
    "patch_one_todo": "update_task",
    "post_chat": "send_message",
    "post_conversations": "create_conversation",
    "post_import": "import_conversation",
    "post_keys": "create_key",
    "post_projects": "create_project",
    "post_prompts": "create_prompt",
    "post_todos": "create_task",
    "post_turn_cancel": "cancel_turn",
    "post_turn_ticket": "create_turn_ticket",
    "post_user_chat": "send_user_message",
    "refresh": "refresh_session",
    "register": "register_account",
    "rename": "update_account",
    "unarchive": "unarchive_conversation",
    # The admin API
    "delete_acknowledgement_item": "delete_acknowledgement",
    "get_acknowledgements": "list_acknowledgements",
    "get_archive_runs": "list_archive_runs",
    "get_audit": "list_audit_entries",
    "get_backups": "list_backups",
    "get_checks": "run_checks",
    "get_erasures": "list_erasures",
    "get_growth": "get_table_growth",
    "get_holds": "list_holds",
    "get_jobs": "list_jobs",
    "get_live": "get_liveness",
    "get_locks": "list_locks",
    "delete_mcp_server_item": "delete_mcp_server",
    "get_mcp_server_list": "list_mcp_servers",
    "post_mcp_allow": "allow_mcp_tools",
    "post_mcp_disable": "disable_mcp_server",
    "post_mcp_disallow": "disallow_mcp_tools",
    "post_mcp_enable": "enable_mcp_server",
    "post_mcp_rotation": "rotate_mcp_secrets",
    "post_mcp_server_list": "register_mcp_server",
    "post_mcp_server_test": "test_mcp_server",
    "get_provider_list": "list_providers",
    "get_ready": "get_readiness",
    "get_runs": "list_job_runs",
    "get_slow": "list_slow_statements",
    "get_user_keys": "list_user_keys",
    "get_users": "list_users",
    "post_acknowledgements": "create_acknowledgement",
    "post_archive_run_undo": "undo_archive_run",
    "post_backup_drill": "drill_backup",
    "post_backup_prune": "prune_backups",
    "post_backup_verification": "verify_backup",
    "post_conversation_restore": "restore_conversation",
    "post_holds": "create_hold",
    "post_index_plan_application": "apply_index_plan",
    "post_job_runs": "run_job",
    "post_provider_test": "test_provider",
    "post_queue_purge": "purge_queue",
    "post_run_cancellation": "cancel_job_run",
    "post_run_retry": "retry_job_run",
    "post_session_end": "end_database_session",
    "post_user_disable": "disable_user",
    "post_user_enable": "enable_user",
    "post_user_logout": "end_user_sessions",
    "post_user_restore": "restore_user",
    "put_pause": "pause_job",
    "delete_pause": "resume_job",
    "get_workers": "list_workers",
    "put_provider_choice": "choose_provider",
    "put_user_quota": "set_user_quota",
    "put_user_storage": "set_user_storage_limit",
    "request_erasure": "erase_user",
    "request_password_reset": "send_password_reset",
    "set_role": "set_user_role",
    "delete_provider_choice": "reset_provider_choice",
}

ENUMERATION = "x-enumeration"  # in a field's metadata: name of the schema of its values, if only this field has them

# Schemas of enumerations that several fields have, by their values in order.
ENUMERATIONS: dict[tuple[str, ...], str] = {
    ("user", "assistant", "system", "tool"): "MessageRole",
    ("running", "completed", "failed", "cancelled", "interrupted"): "TurnStatus",
    ("ok", "unavailable"): "HealthStatus",
    ("user", "operator", "admin"): "UserRole",
    ("active", "disabled"): "UserStatus",
    ("chat", "read", "write", "admin"): "KeyScope",
    ("active", "archived"): "ConversationStatus",
    ("running", "succeeded", "failed", "skipped", "lost", "cancelled"): "JobRunStatus",
    ("ok", "warning", "critical", "unknown"): "CheckLevel",
    ("demo", "openai", "openrouter", "compatible"): "ProviderName",
    ("command", "user", "job", "anonymous"): "ActorKind",
    ("begun", "done", "refused", "failed"): "AuditResult",
    ("none", "pending", "ready", "failed"): "FileTextState",
    ("encrypted", "broken", "too_large", "memory", "time", "crashed", "missing"): "FileTextFailure",
}

# Names of error responses with several codes, by codes that only they have; the first that fits is used. So one more
# code does not rename the schema in generated clients. A response that none fits is named by all of its codes.
PROBLEMS: tuple[tuple[str, set[str]], ...] = (
    ("FileLimit", {"too_many_files"}),
    ("FileDownloadUnavailable", {"file_store_unavailable", "overloaded"}),
    ("FileUploadUnavailable", {"file_store_unavailable"}),
    ("TurnLimit", {"too_many_turns"}),
    ("StreamLimit", {"too_many_streams"}),
    ("AttemptLimit", {"too_many_attempts"}),
    ("StorageLimit", {"storage_limit_reached"}),
    ("TurnConflict", {"conversation_moved_on"}),
    ("TurnUnavailable", {"provider_circuit_open"}),
    ("ProviderFailed", {"provider_misconfigured"}),
    ("StreamUnavailable", {"overloaded", "archive_damaged"}),
    ("MessagesUnavailable", {"archive_damaged"}),
    ("OperationUnavailable", {"unavailable"}),
    ("AccountUnavailable", {"overloaded", "locked"}),
)


def problem_name(codes: list[str]) -> str:
    """Return the name of an error response with these codes."""
    if len(codes) > 1:
        for name, distinctive in PROBLEMS:
            if distinctive <= set(codes):
                return name
    return ".".join("".join(word.capitalize() for word in code.split("_")) for code in codes)


def name_enumerations(document: dict[str, Any]) -> None:
    """Replace inline enumerations that have a name by references to components, in place."""
    used: dict[str, dict[str, Any]] = {}
    _replace(document["components"]["schemas"], used)
    _replace(document["paths"], used)
    document["components"]["schemas"].update(sorted(used.items()))


def _replace(node: Any, used: dict[str, dict[str, Any]]) -> None:
    if isinstance(node, list):
        for inner in node:
            _replace(inner, used)
    elif isinstance(node, dict):
        values = node["enum"] if isinstance(node.get("enum"), list) else []
        own_name = node.pop(ENUMERATION, None)
        name = ENUMERATIONS.get(tuple(value for value in values if value), own_name)
        if name:
            used[name] = {"type": "string", "enum": [value for value in values if value]}
            reference = {"$ref": f"#/components/schemas/{name}"}
            nullable = "null" in node.get("type", ())  # not of a query parameter, which cannot send null
            for key in ("enum", "type"):
                node.pop(key, None)
            node.update({"anyOf": [reference, {"type": "null"}]} if nullable else reference)
        for inner in node.values():
            _replace(inner, used)
