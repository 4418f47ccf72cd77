"""Short descriptions of S3 errors, with the setting that may be wrong."""

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

# By error code of S3. `{prefix}` is the prefix of the settings' names.
_ADVICE = {
    "NoSuchBucket": "the bucket does not exist; create it, or correct {prefix}_URL",
    "InvalidAccessKeyId": "{prefix}_S3_ACCESS_KEY_ID is not known there",
    "SignatureDoesNotMatch": "{prefix}_S3_SECRET_ACCESS_KEY is wrong",
    "AccessDenied": "the key lacks a permission; it must be able to list, read, write and delete",
    "403": "the key lacks a permission; it must be able to list, read, write and delete",
    "NoSuchKey": "it holds no such file",
    "PermanentRedirect": "the bucket is in another region; set {prefix}_S3_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set {prefix}_S3_REGION",
}


def error_code(error: ClientError) -> str:
    """Return the code that S3 sent, or an empty text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def describe(error: Exception, prefix: str) -> str:
    """Describe an error in a few words, without secrets."""
    if isinstance(error, ClientError):
        code = error_code(error)
        if code in _ADVICE:
            return f"{code}: {_ADVICE[code].format(prefix=prefix)}"
        return f"it answered {code or 'with an error'}"
    if isinstance(error, NoCredentialsError):
        return f"no access key; set {prefix}_S3_ACCESS_KEY_ID and {prefix}_S3_SECRET_ACCESS_KEY"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return f"its address does not respond; check {prefix}_S3_ENDPOINT, and that the service runs"
    if isinstance(error, ReadTimeoutError):
        return "it did not answer in time"
    return f"{type(error).__name__}, {str(error)[:200]}"
