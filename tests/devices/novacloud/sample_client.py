"""The client of the NovaCloud TCP guide, section 8.1, word for word but for one check.

As printed, `send_message` refuses to send before ``connected``, which is only set by the answer to the auth message that
it is to send. `NovaCloudTcpClient` has that check mended; `PrintedClient` is the client as printed.
"""

# fmt: off
# ruff: noqa: E501, E722, S110
# mypy: disable-error-code="no-untyped-def,no-untyped-call,var-annotated,attr-defined"

import json
import socket
import threading
import time
from typing import Any


class NovaCloudTcpClient:
    client: Any  # not in the guide

    def __init__(self, host, port, device_id, device_key):
        self.host = host
        self.port = port
        self.device_id = device_id
        self.device_key = device_key
        self.client = None
        self.connected = False
        self.buffer = ""

    def connect(self):
        """连接到服务器并进行认证"""
        try:
            # 创建TCP套接字并连接
            self.client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.client.connect((self.host, self.port))

            # 发送认证消息
            auth_message = {
                "type": "auth",
                "payload": {
                    "device_id": self.device_id,
                    "device_key": self.device_key
                }
            }
            self.send_message(auth_message)

            # 接收认证响应
            response = self.client.recv(1024).decode('utf-8')
            response_data = json.loads(response)

            if response_data.get('type') == 'auth_response' and response_data.get('payload', {}).get('status') == 'success':
                print("认证成功")
                self.connected = True

                # 启动心跳线程
                self.start_heartbeat()

                # 启动消息监听线程
                self.start_message_listener()

                return True
            else:
                print(f"认证失败: {response_data.get('payload', {}).get('message', '未知错误')}")
                self.client.close()
                return False

        except Exception as e:
            print(f"连接错误: {e}")
            if self.client:
                self.client.close()
            return False

    def send_message(self, message):
        """发送消息到服务器"""
        if not self.client:  # as printed: or not self.connected
            print("未连接，无法发送消息")
            return False

        try:
            self.client.send((json.dumps(message) + '\n').encode('utf-8'))
            return True
        except Exception as e:
            print(f"发送消息失败: {e}")
            self.connected = False
            return False

    def send_sensor_data(self, data_dict, timestamp=None):
        """发送传感器数据"""
        if timestamp is None:
            timestamp = int(time.time())

        message = {
            "type": "data",
            "timestamp": timestamp,
            "payload": data_dict
        }

        return self.send_message(message)

    def send_device_status(self, status_dict):
        """发送设备状态"""
        message = {
            "type": "status",
            "payload": status_dict
        }

        return self.send_message(message)

    def start_heartbeat(self, interval=60):
        """启动心跳线程"""
        def send_heartbeat():
            while self.connected:
                try:
                    heartbeat = {"type": "heartbeat"}
                    if not self.send_message(heartbeat):
                        break
                    time.sleep(interval)
                except Exception as e:
                    print(f"心跳发送失败: {e}")
                    self.connected = False
                    break

        heartbeat_thread = threading.Thread(target=send_heartbeat, daemon=True)
        heartbeat_thread.start()

    def handle_command(self, command_data):
        """处理接收到的命令"""
        try:
            command_id = command_data.get('command_id')
            payload = command_data.get('payload', {})

            print(f"收到命令: {payload}")

            # 这里应该包含实际处理命令的逻辑
            # 此处仅作为示例，简单地将命令值作为当前状态返回

            # 发送成功响应
            response = {
                "type": "command_response",
                "command_id": command_id,
                "status": "success",
                "payload": {
                    "current_state": payload,
                    "execution_time": 0.5
                }
            }

            self.send_message(response)

        except Exception as e:
            print(f"命令处理错误: {e}")
            # 发送错误响应
            error_response = {
                "type": "command_response",
                "command_id": command_data.get('command_id', ''),
                "status": "error",
                "payload": {
                    "error": str(e)
                }
            }
            self.send_message(error_response)

    def start_message_listener(self):
        """启动消息监听线程"""
        def listen_for_messages():
            self.buffer = ""
            while self.connected:
                try:
                    data = self.client.recv(1024).decode('utf-8')
                    if not data:
                        print("连接已关闭")
                        self.connected = False
                        break

                    self.buffer += data

                    # 处理完整的JSON消息
                    while '\n' in self.buffer:
                        line, self.buffer = self.buffer.split('\n', 1)
                        if line.strip():  # 确保不是空行
                            try:
                                message = json.loads(line)

                                if message.get('type') == 'command':
                                    self.handle_command(message)
                                # 处理其他类型的消息

                            except json.JSONDecodeError as e:
                                print(f"JSON解析错误: {e}, 原始数据: {line}")

                except Exception as e:
                    print(f"消息监听错误: {e}")
                    self.connected = False
                    break

        listen_thread = threading.Thread(target=listen_for_messages, daemon=True)
        listen_thread.start()

    def disconnect(self):
        """断开连接"""
        self.connected = False
        if self.client:
            try:
                self.client.close()
            except:
                pass
        print("已断开连接")


class PrintedClient(NovaCloudTcpClient):
    def send_message(self, message):
        if not self.client or not self.connected:
            print("未连接，无法发送消息")
            return False
        return super().send_message(message)
