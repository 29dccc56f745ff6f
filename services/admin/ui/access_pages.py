"""The pages under Access in the menu: who may ask for what."""

from services.admin.ui.key import KEY_PAGE_ROUTES
from services.admin.ui.key_changes import KEY_CHANGE_ROUTES
from services.admin.ui.keys import KEYS_ROUTES
from services.admin.ui.members import MEMBER_PAGE_ROUTES
from services.admin.ui.model import MODEL_PAGE_ROUTES
from services.admin.ui.model_changes import MODEL_CHANGE_ROUTES
from services.admin.ui.models import MODELS_ROUTES
from services.admin.ui.new_key import NEW_KEY_ROUTES
from services.admin.ui.team import TEAM_PAGE_ROUTES
from services.admin.ui.teams import TEAMS_ROUTES
from services.admin.ui.user import USER_PAGE_ROUTES
from services.admin.ui.users import USERS_ROUTES

__all__ = ["ACCESS_PAGE_ROUTES"]

ACCESS_PAGE_ROUTES = (
    *KEYS_ROUTES,
    *NEW_KEY_ROUTES,
    *KEY_PAGE_ROUTES,
    *KEY_CHANGE_ROUTES,
    *TEAMS_ROUTES,
    *TEAM_PAGE_ROUTES,
    *MEMBER_PAGE_ROUTES,
    *USERS_ROUTES,
    *USER_PAGE_ROUTES,
    *MODELS_ROUTES,
    *MODEL_PAGE_ROUTES,
    *MODEL_CHANGE_ROUTES,
)
