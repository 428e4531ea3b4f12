"""Verifying who signed a transaction."""

from solders.pubkey import Pubkey
from solders.signature import Signature

from chainwatch.unreadable import Unreadable
from chainwatch.wire import WireTransaction


def verify_signatures(wire: WireTransaction) -> None:
    """Verify every signature of a transaction, as strictly as the chain does.

    With what `chainwatch.decode.read_transaction` checked, the transaction is then the one that was asked for: a provider
    can no longer have forged or exchanged it.

    Raises:
        Unreadable: a signature is not its signer's, or is for another message.
    """
    for signer, signature in zip(wire.signers, wire.signatures, strict=True):
        if not Signature.from_bytes(signature).verify(Pubkey.from_string(signer), wire.message):
            raise Unreadable("a signature of the transaction is not genuine")
