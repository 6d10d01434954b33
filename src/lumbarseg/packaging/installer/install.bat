@echo off
rem Installs lumbarseg from this folder, without network: install.bat [FOLDER]
setlocal
set "found="
for %%V in (@PYTHONS@) do if not defined found py -%%V -I "%~dp0install.py" --fits >nul 2>nul && set "found=py -%%V"
if not defined found python -I "%~dp0install.py" --fits >nul 2>nul && set "found=python"
if not defined found goto none
%found% -I "%~dp0install.py" %*
set "code=%errorlevel%"
pause
exit /b %code%
:none
echo lumbarseg: error: no Python @PYTHONS@ (64 bit) found; install one of them first
pause
exit /b 1
