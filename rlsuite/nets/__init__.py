"""Networks: backbones (CNNs), torsos ([T,B,D] features), memory cores, heads. Always [T,B] first."""
