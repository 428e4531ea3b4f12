"""Why an arrival is set aside, as constants and as sentences for people: pure."""

from typing import Final

NO_CODE: Final = "no_code"
MEMO_IS_NO_CODE: Final = "memo_is_no_code"
SEVERAL_CODES: Final = "several_codes"
MEMO_AGAINST_REFERENCE: Final = "memo_against_reference"
MEMO_AGAINST_EVENT: Final = "memo_against_event"
EVENT_OVER_CLAIMS: Final = "event_over_claims"
EVENT_UNREADABLE: Final = "event_unreadable"
LOG_TRUNCATED: Final = "log_truncated"
LOG_FORGED: Final = "log_forged"
UNKNOWN_CODE: Final = "unknown_code"
CLOSED_ACCOUNT: Final = "closed_account"
BALANCE_FULL: Final = "balance_full"

# The last three are the ledger's, which knows the accounts.
SENTENCES: Final = {
    NO_CODE: "It names no account: it has no memo and no reference that is known here.",
    MEMO_IS_NO_CODE: "It has a memo, but no memo of it is a deposit code and nothing else.",
    SEVERAL_CODES: "It names several accounts; what belongs to whom is not for a machine to say.",
    MEMO_AGAINST_REFERENCE: "Its memo names one account and its Solana Pay reference another.",
    MEMO_AGAINST_EVENT: "Its memo or reference names one account and the deposit program's event another.",
    EVENT_OVER_CLAIMS: "The deposit program's event tells of more than arrived.",
    EVENT_UNREADABLE: "The deposit program wrote an event that cannot be read.",
    LOG_TRUNCATED: "The deposit program was called, but the log in which it names the account was cut off.",
    LOG_FORGED: "The deposit program was called, but the log in which it names the account cannot be trusted.",
    UNKNOWN_CODE: "Its deposit code belongs to no account.",
    CLOSED_ACCOUNT: "Its deposit code belongs to a closed account.",
    BALANCE_FULL: "The account that it names cannot hold so much.",
}
