"""Which stores a command works on: those of the settings, or those of the appliance that runs on this home."""

from pathlib import Path

from cli.embedded import postgres_url, valkey_url
from cli.home_lock import is_running
from config.settings import Settings, SettingsError, load_settings


class NoStores(Exception):
    """There is no appliance whose books could be read; the text says how to start one."""


def command_settings(flags: dict[str, object], config: Path | None) -> Settings:
    """Return the settings of a command, the addresses of the stores filled in.

    Where no mode is given and the stores are embedded, the mode is that of the appliance that runs.

    Raises:
        SettingsError: a setting is wrong.
        NoStores: nothing runs, or two appliances do and it is not said which is meant.
    """
    settings = load_settings(flags, config)
    if settings.database_url is not None and settings.redis_url is not None:
        return settings
    if flags.get("mode") is None:
        settings = _of_running(settings, flags, config)
    if not is_running(settings.home):
        raise NoStores(
            f"no appliance runs on {settings.home}: start it with `level5 up`, name its home with --home, or set LEVEL5_DATABASE_URL and LEVEL5_REDIS_URL"
        )
    return settings.with_stores(database_url=postgres_url(settings.home), redis_url=valkey_url(settings.home))


def _of_running(settings: Settings, flags: dict[str, object], config: Path | None) -> Settings:
    """Return the settings in the mode of the one appliance that runs on this home."""
    try:
        others = [load_settings({**flags, "mode": mode}, config) for mode in ("real", "sandbox") if mode != settings.mode]
    except SettingsError:
        others = []  # settings with real keys do not fit a sandbox, so none was started with them
    running = [one for one in (settings, *others) if is_running(one.home)]
    if len(running) > 1:
        raise NoStores(f"a real appliance and a sandbox run on {settings.home}: say which with --sandbox or --real")
    return running[0] if running else settings
