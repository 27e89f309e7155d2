"""Parameters that change while a function runs: from SSM, AppConfig, the environment and files, behind one face.

    config = Config(Environment("ORDERS_"), SsmParameters("/shop/orders"))

    class Orders(RecordProcessor):
        limit = config.integer("limit", default=10)
        password = config.secret("db/password")

        def process(self, record):
            if record.json()["total"] > self.limit.value: ...

The sources that speak to AWS have modules of their own: ``streamkit.config.ssm`` and ``streamkit.config.appconfig``.
"""

from .config import Config
from .environment import Environment
from .files import File, Folder
from .secret import Secret
from .setting import Setting
from .source import Found, Source

__all__ = ["Config", "Environment", "File", "Folder", "Found", "Secret", "Setting", "Source"]
