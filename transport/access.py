"""The broker's address and the certificates of both sides, and the reasons why there is no connection, in words."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pika import exceptions

from config.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from config.amqp_url import AmqpAddress
    from config.settings import Settings

MAX_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """The broker's address, and the files that prove who it is and who we are."""

    address: AmqpAddress
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def tls(self) -> ssl.SSLContext | None:
        """Return how connections are secured. Raises OSError for files that cannot be used."""
        if not self.address.is_tls:
            return None
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        if self.cert_file is not None:
            context.load_cert_chain(str(self.cert_file), None if self.key_file is None else str(self.key_file))
        return context


def broker_access(settings: Settings) -> BrokerAccess | None:
    """Return the access to the broker; None without AMQP_URL. Raises SettingsError for unusable files."""
    address = settings.amqp_address
    if address is None:
        return None
    access = BrokerAccess(address, settings.amqp_ca_file, settings.amqp_cert_file, settings.amqp_key_file)
    try:
        access.tls()
    except (OSError, ssl.SSLError) as e:
        raise SettingsError(
            f"AMQP_CA_FILE, AMQP_CERT_FILE or AMQP_KEY_FILE cannot be used: {e.strerror or e}"
        ) from e
    return access


def explained(error: BaseException) -> str:
    """Return the reason in words, without anything that could hold a password."""
    chain = str(error) or repr(error)
    if isinstance(error, exceptions.ChannelClosedByBroker):
        if error.reply_code == 406:
            return (
                f"{error.reply_text}; a queue or an exchange of this name was declared otherwise before: "
                "delete it, or set another AMQP_QUEUE"
            )
        return str(error.reply_text)
    if "ACCESS_REFUSED" in chain or "ProbableAuthenticationError" in chain:
        return "the broker refuses the account of AMQP_URL: check user and password"
    if "ProbableAccessDenied" in chain or "NOT_ALLOWED" in chain:
        return "the account of AMQP_URL may not use its virtual host"
    return chain[:MAX_REASON_CHARS]
