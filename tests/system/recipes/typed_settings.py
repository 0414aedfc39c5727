"""Plugins with typed settings: a pydantic model and a dataclass. mypy and pyright check this file strictly."""

# pyright: strict

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from plugin_store import BasePlugin, PluginMetadata


class MailSettings(BaseModel):
    host: str
    port: int = Field(25, gt=0)


class Mail(BasePlugin):
    metadata = PluginMetadata(name="mail", version="1.0.0", author="you", description="Sends mail.")
    settings: MailSettings

    def validate_config(self, config: dict[str, Any]) -> MailSettings:
        return MailSettings.model_validate(config)  # its ValidationError is a ValueError

    def address(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"


@dataclass(frozen=True)
class ChatSettings:
    room: str
    limit: int = 100

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1, not {self.limit}")


class Chat(BasePlugin):
    metadata = PluginMetadata(name="chat", version="1.0.0", author="you", description="Keeps messages.")
    settings: ChatSettings

    def validate_config(self, config: dict[str, Any]) -> ChatSettings:
        try:
            return ChatSettings(**config)
        except TypeError as error:  # a key is missing or unknown
            raise ValueError(error) from error

    def keeps(self, messages: list[str]) -> list[str]:
        return messages[-self.settings.limit :]
