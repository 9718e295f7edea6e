"""The checks of single settings: a value that does not fit is refused at start with the variable's name."""

from __future__ import annotations

import re

from pydantic import ValidationInfo, field_validator

from config.amqp_url import check_queue_name, parse_amqp_url
from config.network_patterns import parse_pattern_list
from config.parsers import (
    parse_base_url,
    parse_dialects,
    parse_networks,
    parse_ratelimit_url,
    parse_registry,
    parse_storage_url,
)
from config.setting_table import SettingTable
from config.static_keys import parse_api_keys

METRICS_TOKEN = re.compile(r"[\x21-\x7e]{8,256}")
ADMIN_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")


class CheckedSettings(SettingTable):
    """Settings of which each has a value that may be."""

    @field_validator("api_keys")
    @classmethod
    def _keys_parse(cls, value: str | None) -> str | None:
        if value is not None:
            parse_api_keys(value)
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_one_of_two(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://", "sqlite:////")):
            raise ValueError("DATABASE_URL must begin with postgresql:// or, with an absolute path, sqlite:////")
        return value

    @field_validator("storage_url")
    @classmethod
    def _storage_url_parses(cls, value: str | None) -> str | None:
        if value is not None:
            parse_storage_url(value)
        return value

    @field_validator("metrics_token")
    @classmethod
    def _metrics_token_can_be_sent(cls, value: str | None) -> str | None:
        if value is not None and not METRICS_TOKEN.fullmatch(value):
            raise ValueError("METRICS_TOKEN: must be 8 to 256 visible ASCII characters")
        return value

    @field_validator("admin_token")
    @classmethod
    def _admin_token_cannot_be_guessed(cls, value: str | None) -> str | None:
        if value is not None and not ADMIN_TOKEN.fullmatch(value):
            raise ValueError("ADMIN_TOKEN: must be 16 to 256 visible ASCII characters")
        return value

    @field_validator("ratelimit_url")
    @classmethod
    def _ratelimit_url_parses(cls, value: str | None) -> str | None:
        return None if value is None else parse_ratelimit_url(value)

    @field_validator("amqp_url")
    @classmethod
    def _amqp_url_parses(cls, value: str | None) -> str | None:
        if value is not None:
            parse_amqp_url(value)
        return value

    @field_validator("amqp_queue")
    @classmethod
    def _amqp_queue_is_a_name(cls, value: str) -> str:
        check_queue_name(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _trusted_proxies_parse(cls, value: str | None) -> str | None:
        if value is not None:
            parse_networks(value)
        return value

    @field_validator("egress_allow")
    @classmethod
    def _egress_patterns_parse(cls, value: str | None) -> str | None:
        if value is not None:
            parse_pattern_list(value, "EGRESS_ALLOW")
        return value

    @field_validator("egress_private", "egress_deny")
    @classmethod
    def _egress_networks_parse(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            parse_networks(value, str(info.field_name).upper())
        return value

    @field_validator("pypi_url", "npm_url", "goproxy", "cargo_index")
    @classmethod
    def _registries_parse(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            parse_registry(str(info.field_name).upper(), value)
        return value

    @field_validator("dialects")
    @classmethod
    def _dialects_parse(cls, value: str) -> str:
        parse_dialects(value)
        return value

    @field_validator("dialect_key")
    @classmethod
    def _dialect_key_is_an_id(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("key_"):
            raise ValueError("DIALECT_KEY: is the id of a key, `key_…`, as `make keys` lists it; not its secret")
        return value

    @field_validator("public_base_url", "s3_endpoint_url", "otel_exporter_otlp_endpoint")
    @classmethod
    def _base_url_parses(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else parse_base_url(str(info.field_name).upper(), value)
