"""The sentences that devices get, in the guide's language. Details of faults that follow a colon are in English."""

from __future__ import annotations

from typing import Final

LOGGED_IN: Final = "认证成功"
#: One text for an unknown id and a wrong key, so that nobody can probe for ids.
WRONG_CREDENTIALS: Final = "设备不存在或密钥错误"
DISABLED: Final = "设备已被禁用"
TRY_LATER: Final = "服务暂时不可用，请稍后重试"
AUTH_FIRST: Final = "请先发送认证消息"
BAD_AUTH: Final = "认证消息格式错误"
OTHER_DEVICE: Final = "此连接已由其他设备认证"
BAD_LINE: Final = "消息格式错误"

#: Acknowledgements of a flat session.
RECEIVED: Final = {"data": "数据已接收", "status": "状态已接收", "heartbeat": "心跳已接收"}

#: Last words by close reason; nothing is said for reasons that are not here.
GOODBYE: Final = {
    "auth_timeout": "认证超时",
    "flood": "消息过多",
    "idle": "心跳超时",
    "internal_error": "服务器内部错误",
    "removed": "设备已被删除、禁用或更换密钥",
    "shutdown": "服务器正在停止，请稍后重新连接",
    "takeover": "设备已从其他连接登录",
}
