"""`python -m tests.deploy` renews what is generated; read the difference before it is committed."""

from tests.deploy.generated import renew

renew()
